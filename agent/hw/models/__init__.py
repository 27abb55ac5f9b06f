"""The networks: face detectors, embedders, liveness."""
