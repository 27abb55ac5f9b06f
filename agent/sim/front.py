"""Lamps and a display that remember what they were told; ``broken`` makes them fail as parts do."""

from __future__ import annotations

from agent.base.errors import FeedbackError
from agent.base.events import StoredEvent
from agent.base.values import DoorSignal


class FakeLamps:
    """A ``ports.Lamps``. For lamps with pins and time there are gpiozero's: ``pin_factory``
    "mock"."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.broken = False
        self.closed = False

    def show(self, signal: DoorSignal) -> None:
        """Note the name of *signal*. Raises FeedbackError while broken."""
        if self.broken:
            raise FeedbackError("pin 17 does not answer")
        self.shown.append(signal.name)

    def close(self) -> None:
        self.closed = True


class FakeDisplay:
    """A ``ports.Display``."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, StoredEvent | None]] = []
        self.broken = False
        self.closed = False

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        """Note the name of *signal* and the event. Raises FeedbackError while broken."""
        if self.broken:
            raise FeedbackError("nobody reads")
        self.shown.append((signal.name, stored))

    def close(self) -> None:
        self.closed = True
