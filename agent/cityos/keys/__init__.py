"""The town's keys, outside the database, and the log of who used them."""
