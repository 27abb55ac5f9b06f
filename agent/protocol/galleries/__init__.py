"""Galleries on the wire: who has which version, its bodies, and the records in them."""
