"""The journal in memory, filled by the number."""

from __future__ import annotations

from agent.base.events import StoredEvent
from agent.sim.journal import MemoryJournal
from tests.events import EPOCH, make_event


class MemoryOutbox(MemoryJournal):
    """Its epoch is a known one."""

    def __init__(self, *epochs: str) -> None:
        super().__init__(*(epochs or (EPOCH,)))

    def fill(self, count: int = 1, *, epoch: str | None = None, stop: str = "S") -> None:
        """Put *count* events after the last."""
        epoch = epoch or self.epoch
        last = self.bounds(epoch)[1]
        for seq in range(last + 1, last + count + 1):
            self.put(StoredEvent(epoch, seq, make_event(seq, stop=stop)))
