"""The only builders: from settings to parts, and from parts to a running agent."""
