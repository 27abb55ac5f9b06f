"""Galleries from the city: asked for, checked, applied; how long they may be used; who is gone."""
