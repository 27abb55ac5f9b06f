"""Every byte between a device and its city, and nothing else."""
