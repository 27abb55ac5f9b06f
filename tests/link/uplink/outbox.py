"""An outbox in memory that answers like the journal does."""

from __future__ import annotations

from types import TracebackType

from agent.base.errors import MessageError
from agent.base.events import StoredEvent
from agent.base.values import Ack
from tests.events import EPOCH, make_event


class MemoryOutbox:
    """Rows by (epoch, seq): "pending", "acked", or the code they were quarantined with."""

    def __init__(self, *epochs: str) -> None:
        self._epochs = list(epochs) or [EPOCH]
        self.rows: dict[str, dict[int, StoredEvent]] = {epoch: {} for epoch in self._epochs}
        self.states: dict[tuple[str, int], str] = {}
        self.clocks: list[tuple[str, int]] = []

    def append(self, count: int = 1, *, epoch: str | None = None, stop: str = "S") -> None:
        rows = self.rows[epoch or self.epoch]
        for _ in range(count):
            seq = len(rows) + 1
            rows[seq] = StoredEvent(epoch or self.epoch, seq, make_event(seq, stop=stop))
            self.states[(epoch or self.epoch, seq)] = "pending"

    def put(self, stored: StoredEvent) -> None:
        self.rows[stored.epoch][stored.seq] = stored
        self.states[(stored.epoch, stored.seq)] = "pending"

    @property
    def epoch(self) -> str:
        return self._epochs[-1]

    def epochs(self) -> list[str]:
        older = [epoch for epoch in self._epochs[:-1] if self.pending(epoch, 0, 1)]
        return [*older, self.epoch]

    def bounds(self, epoch: str) -> tuple[int, int]:
        rows = self.rows[epoch]
        return (1, len(rows))

    def pending(self, epoch: str, after: int, limit: int) -> list[StoredEvent]:
        waiting = [
            stored
            for seq, stored in self.rows[epoch].items()
            if seq > after and self.states[(epoch, seq)] == "pending"
        ]
        return waiting[:limit]

    def confirm(self, ack: Ack) -> int:
        if ack.epoch not in self.rows:
            raise MessageError("unknown epoch")
        last = len(self.rows[ack.epoch])
        ends = [ack.upto, *(end for _, end in ack.have), *(nack.seq for nack in ack.nack)]
        if max(ends) > last:
            raise MessageError("beyond the last number handed out")
        changes = {nack.seq: nack.code for nack in ack.nack}
        for first, end in ((1, ack.upto), *ack.have):
            changes = dict.fromkeys(range(first, end + 1), "acked") | changes
        changed = 0
        for seq, state in changes.items():
            if self.states[(ack.epoch, seq)] == "pending":
                self.states[(ack.epoch, seq)] = state
                changed += 1
        return changed

    def replay(self, epoch: str, first: int, last: int) -> int:
        found = [
            (epoch, seq) for seq in range(first, last + 1) if self.states[(epoch, seq)] == "acked"
        ]
        self.states.update(dict.fromkeys(found, "pending"))
        return len(found)

    def requeue(self, epoch: str, first: int, last: int) -> int:
        found = [
            (epoch, seq)
            for seq in range(first, last + 1)
            if self.states[(epoch, seq)] not in ("pending", "acked")
        ]
        self.states.update(dict.fromkeys(found, "pending"))
        return len(found)

    def absent(self, epoch: str, first: int, last: int) -> list[tuple[int, int, str]]:
        found = [(seq, self.states.get((epoch, seq), "gone")) for seq in range(first, last + 1)]
        return [(seq, seq, code) for seq, code in found if code not in ("pending", "acked")]

    def held(self) -> list[str]:
        return self._epochs

    def offsets(self) -> list[tuple[str, int]]:
        return self.clocks

    def __enter__(self) -> MemoryOutbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
