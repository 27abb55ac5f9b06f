"""Where secret keys are kept."""
