"""What the tests of galleries over the wire share."""

from tests.protocol.conftest import town

__all__ = ["town"]
