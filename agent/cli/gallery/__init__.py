"""``kaopass gallery``: one command a file."""
