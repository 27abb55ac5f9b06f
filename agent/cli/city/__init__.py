"""``kaopass city``: one group a file."""
