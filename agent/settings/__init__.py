"""All settings of a device: the model, where they come from, and what a city changes."""
