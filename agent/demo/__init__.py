"""The whole line on one machine, with photographs as passengers."""
