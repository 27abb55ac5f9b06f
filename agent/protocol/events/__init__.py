"""Events on the wire, a file a kind: how its own fields are written, and strictly read."""
