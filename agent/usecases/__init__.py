"""What one can ask of a device: each with its own transaction and audit entry."""
