"""Events to the city: batches, their acks, and the thread that keeps at it."""
