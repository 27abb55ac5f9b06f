"""The city's version of a gallery on this device: staged, admitted, in force while leased."""
