"""What the drivers of models share: sessions, and single networks around them."""
