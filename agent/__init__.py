"""kaopass (顔パス): the agent at a bus door or in a community hall."""

__version__ = "0.1.0"
