"""A journal in memory: what the pipeline appends and sync sends, gone with the process."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from itertools import groupby
from types import TracebackType

from agent.base.errors import JournalError, MessageError
from agent.base.events import Event, StoredEvent
from agent.base.values import Ack

PENDING, ACKED = "pending", "acked"


class MemoryJournal:
    """A ``ports.EventLog`` and ``ports.Outbox``. Events go to the last of *epochs*.

    ``states`` holds of every event, by (epoch, number), "pending", "acked", or the code it was
    refused with.
    """

    def __init__(self, *epochs: str) -> None:
        self._epochs = list(epochs) or [secrets.token_hex(16)]
        self._rows: dict[str, dict[int, StoredEvent]] = {epoch: {} for epoch in self._epochs}
        self._last = dict.fromkeys(self._epochs, 0)
        self.states: dict[tuple[str, int], str] = {}
        self.clocks: list[tuple[str, int]] = []

    def append(self, event: Event) -> StoredEvent:
        """Store *event* under the next number of the current epoch."""
        return self.put(StoredEvent(self.epoch, self._last[self.epoch] + 1, event))

    def put(self, stored: StoredEvent) -> StoredEvent:
        """Store an event under the epoch and number it has; those left out were lost."""
        self._rows[stored.epoch][stored.seq] = stored
        self._last[stored.epoch] = max(self._last[stored.epoch], stored.seq)
        self.states[(stored.epoch, stored.seq)] = PENDING
        return stored

    def recent(self, limit: int) -> list[StoredEvent]:
        """The newest *limit* events, newest first."""
        rows = [row for epoch in self._epochs for row in self._rows[epoch].values()]
        return rows[::-1][:limit]

    @property
    def epoch(self) -> str:
        return self._epochs[-1]

    def epochs(self) -> list[str]:
        """Epochs with unacknowledged events, and the current one last."""
        older = [epoch for epoch in self._epochs[:-1] if self.pending(epoch, 0, 1)]
        return [*older, self.epoch]

    def bounds(self, epoch: str) -> tuple[int, int]:
        """(first kept, last handed out). Raises JournalError if there is no such epoch."""
        if epoch not in self._rows:
            raise JournalError(f"the journal in memory has no epoch {epoch!r}")
        last = self._last[epoch]
        return min(self._rows[epoch], default=last + 1), last

    def pending(self, epoch: str, after: int, limit: int) -> list[StoredEvent]:
        """Unacknowledged events of *epoch* with seq > *after*, in order."""
        waiting = [
            stored
            for seq, stored in self._rows.get(epoch, {}).items()
            if seq > after and self.states[(epoch, seq)] == PENDING
        ]
        return waiting[:limit]

    def confirm(self, ack: Ack) -> int:
        """Apply what the city has. Raises MessageError for an ack that cannot be true."""
        last = self.bounds(self._known(ack.epoch))[1]
        ranges = [*ack.have, *((nack.seq, nack.seq) for nack in ack.nack)]
        ranges += [(1, ack.upto)] if ack.upto else []
        if any(not 1 <= first <= end <= last for first, end in ranges):
            raise MessageError(f"ack for epoch {ack.epoch}: beyond {last}, or no range")
        changes = {nack.seq: nack.code for nack in ack.nack}
        for first, end in ((1, ack.upto), *ack.have):
            changes = dict.fromkeys(range(first, end + 1), ACKED) | changes
        return self._change(ack.epoch, changes, lambda state: state == PENDING)

    def replay(self, epoch: str, first: int, last: int) -> int:
        """Acknowledged events become pending again. Raises MessageError."""
        again = dict.fromkeys(self._span(epoch, first, last), PENDING)
        return self._change(epoch, again, lambda state: state == ACKED)

    def requeue(self, epoch: str, first: int, last: int) -> int:
        """Refused events become pending again. Raises MessageError."""
        again = dict.fromkeys(self._span(epoch, first, last), PENDING)
        return self._change(epoch, again, lambda state: state not in (PENDING, ACKED))

    def absent(self, epoch: str, first: int, last: int) -> list[tuple[int, int, str]]:
        """(first, last, code) of what will never be sent, in order. Raises MessageError."""
        last = min(last, self.bounds(self._known(epoch))[1])
        codes = [(n, self.states.get((epoch, n), "gone")) for n in range(first, last + 1)]
        spans = [(code, [n for n, _ in found]) for code, found in groupby(codes, lambda it: it[1])]
        return [(n[0], n[-1], code) for code, n in spans if code not in (PENDING, ACKED)]

    def held(self) -> list[str]:
        """Every epoch there is, the current one last."""
        return list(self._epochs)

    def offsets(self) -> list[tuple[str, int]]:
        """What was put into ``clocks``."""
        return self.clocks

    def _known(self, epoch: str) -> str:
        if epoch not in self._rows:
            raise MessageError(f"the journal in memory does not have epoch {epoch!r}")
        return epoch

    def _span(self, epoch: str, first: int, last: int) -> list[int]:
        return [seq for seq in self._rows[self._known(epoch)] if first <= seq <= last]

    def _change(self, epoch: str, to: dict[int, str], where: Callable[[str], bool]) -> int:
        """Put events into the states *to*, if *where* holds for the one they are in; how many."""
        changed = {
            (epoch, seq): state
            for seq, state in to.items()
            if (epoch, seq) in self.states and where(self.states[(epoch, seq)])
        }
        self.states.update(changed)
        return len(changed)

    def __enter__(self) -> MemoryJournal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """It stays as it is, to be looked at or opened again."""
