"""Model packs: what the manifest says of them, where they are, how they are installed."""
