"""Events at the city: taken once, acknowledged truly, complete or known not to be."""
