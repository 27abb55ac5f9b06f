"""Who makes the faults of a round: one thread a device, one each for broker, network and city."""
