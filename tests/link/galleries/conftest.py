"""What the tests of galleries over the wire share."""

from tests.mosquitto import mosquitto
from tests.protocol.conftest import town

__all__ = ["mosquitto", "town"]
