"""What the city commands and sets, carried out once."""
