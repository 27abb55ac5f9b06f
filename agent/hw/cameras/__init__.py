"""Cameras of every kind, files and folders among them."""
