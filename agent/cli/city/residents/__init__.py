"""``kaopass city`` on residents, their consent and their galleries."""
