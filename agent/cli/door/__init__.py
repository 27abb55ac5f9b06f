"""Commands of a device: run, look, provision, export."""
