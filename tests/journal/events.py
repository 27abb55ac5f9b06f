"""Events and moments for the tests of the journal."""

from __future__ import annotations

from agent.base.events import Moment, Passage, PassageEvent, Place
from agent.base.values import Ack, Nack

KEY = bytes(range(32))
DAY_MS = 86_400_000
PLACE = Place("bus", "パークバス1", "front", "紫山一丁目")


def moment(
    mono_ms: int = 1000,
    *,
    boot: str = "boot-a",
    wall_ms: int = 1_700_000_000_000,
    clock: str = "ntp",
) -> Moment:
    return Moment(boot, mono_ms, wall_ms, clock, 50)


def event(number: int = 1, when: Moment | None = None) -> PassageEvent:
    """A boarding of passenger *number*."""
    return PassageEvent(Passage.BOARDING, "bus", f"{number:064x}", PLACE, when or moment(number))


def ack(
    epoch: str,
    upto: int,
    *,
    have: tuple[tuple[int, int], ...] = (),
    nack: tuple[Nack, ...] = (),
) -> Ack:
    return Ack(epoch, upto, have, nack, 1_700_000_100_000)
