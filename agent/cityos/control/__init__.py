"""Settings and commands for devices, kept until they have answered."""
