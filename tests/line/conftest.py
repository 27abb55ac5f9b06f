"""What the tests of the whole line share."""

from tests.mosquitto import mosquitto

__all__ = ["mosquitto"]
