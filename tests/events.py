"""Events to test with: no person, made up and all alike but for their number."""

from __future__ import annotations

import random
from dataclasses import replace

from agent.base.values import Event, EventKind, Moment, Place, StoredEvent

EPOCH = "0123456789abcdef0123456789abcdef"
OTHER_EPOCH = "fedcba9876543210fedcba9876543210"


def make_event(number: int = 1, *, stop: str | None = "高森三丁目") -> Event:
    return Event(
        kind=EventKind.BOARDING,
        purpose="bus",
        person=f"{number:064x}",
        place=Place("bus", "パークバス　1号", "front", stop),
        moment=Moment("3f1c9e2a-boot", 1_000 + number, 1_790_000_000_000 + number, "ntp", 50),
    )


def stored(seq: int, *, epoch: str = EPOCH, stop: str | None = "高森三丁目") -> StoredEvent:
    return StoredEvent(epoch, seq, make_event(seq, stop=stop))


def enrolment(seq: int, *, size: int = 40_000, epoch: str = EPOCH) -> StoredEvent:
    """One whose sealed part, of *size* bytes, looks as random as a real one and is the same each
    time."""
    event = make_event(seq)
    sealed = random.Random(seq).randbytes(size)
    return StoredEvent(epoch, seq, replace(event, kind=EventKind.ENROLMENT, sealed=sealed))
