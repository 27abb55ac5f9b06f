"""Galleries at the city: drafted, published, signed, served."""
