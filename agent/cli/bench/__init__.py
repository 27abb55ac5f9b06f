"""How fast this board is: what a technician asks it."""
