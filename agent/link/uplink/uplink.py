"""What to send to the city and when: batches, their flight, and what an ack does to them.

A state machine without clock or network: time comes in, bytes go out through ``publish``. It keeps
no events; whatever it forgets it reads again from the journal, and only the city's own ack, given
after its commit, takes an event off the list. A PUBACK means nothing here.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.base.errors import MessageError, UsageError
from agent.base.events import StoredEvent
from agent.base.ports import Outbox
from agent.base.values import Ack, Nack
from agent.protocol.commands import Replay
from agent.protocol.items import Lost, encode_event, encode_lost
from agent.protocol.messages import (
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_EPOCHS,
    Bounds,
    decode_ack,
    pack,
)

log = logging.getLogger(__name__)

_MOST_LOST = 2_000  # ranges waiting to be told; for what is over it the city asks again
_REPLAY_STEP = 2_000  # rows in one transaction, so that a long replay keeps no append waiting


@dataclass(frozen=True, slots=True)
class UplinkLimits:
    """How events are batched, and how long and how many batches may wait for their ack.

    ``batch_bytes`` counts JSON before compression. More than the protocol allows is refused. One
    event that is larger, an enrolment, goes alone.
    """

    batch_events: int = MAX_BATCH_EVENTS
    batch_bytes: int = MAX_BATCH_BYTES
    batch_seconds: float = 2.0
    inflight_batches: int = 4
    ack_timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        for field, most in (("batch_events", MAX_BATCH_EVENTS), ("batch_bytes", MAX_BATCH_BYTES)):
            value = getattr(self, field)
            if not 1 <= value <= most:
                raise UsageError(f"{field} = {value}: the protocol allows 1 to {most}")


@dataclass(slots=True)
class Totals:
    """What was counted since the process began; outlives connections and journals reopened."""

    acked: int = 0
    quarantined: int = 0
    rejected_messages: int = 0
    resent_batches: int = 0
    replayed: int = 0
    last_ack_mono_ms: int | None = None
    server_time_ms: int = 0  # the city's, in its last ack


@dataclass(slots=True)
class _Batch:
    """A batch in flight: what it holds that is not acknowledged yet.

    One of ``Lost`` items waits for the first number of each.
    """

    epoch: str
    waiting: set[int]
    payload: bytes
    sent_ms: int
    of_events: bool = True


class Uplink:
    """The outgoing side of one device. One thread; times are CLOCK_MONOTONIC milliseconds.

    *publish* sends one batch and may raise LinkError; the batch then counts as not sent.
    """

    def __init__(
        self,
        outbox: Outbox,
        publish: Callable[[bytes], None],
        limits: UplinkLimits,
        totals: Totals,
    ) -> None:
        self._outbox = outbox
        self._publish = publish
        self._limits = limits
        self._totals = totals
        self._linger_ms = round(limits.batch_seconds * 1000)
        self._ack_timeout_ms = round(limits.ack_timeout_seconds * 1000)
        self._up = False
        self._flight: list[_Batch] = []
        self._epochs: list[str] = []
        self._sent: dict[str, int] = {}
        self._lost: deque[Lost] = deque(maxlen=_MOST_LOST)
        self._partial_since_ms: int | None = None
        self._nonsense_logged = False

    @property
    def in_flight(self) -> int:
        """Batches sent and not acknowledged."""
        return len(self._flight)

    def connected(self) -> None:
        """A new connection: everything not acknowledged goes out again, from the oldest on."""
        self._up = True
        self._nonsense_logged = False
        self._flight.clear()
        self._sent.clear()
        self._lost.clear()
        self._epochs = self._outbox.epochs()
        self._partial_since_ms = None

    def disconnected(self) -> None:
        """The connection is gone, and what was in flight with it."""
        self._up = False
        self._flight.clear()

    def bounds(self) -> tuple[Bounds, ...]:
        """What the journal holds of each epoch, for the birth; the current one is last."""
        held = self._outbox.held()[-MAX_EPOCHS:]
        return tuple(Bounds(epoch, *self._outbox.bounds(epoch)) for epoch in held)

    def look_back(self) -> None:
        """With nothing in flight, what still waits was put back behind us: begin from there.

        Somebody requeued it by hand, in another process.
        """
        if not self._up or self._flight:
            return
        self._epochs = self._outbox.epochs()
        for epoch in self._epochs:
            oldest = self._outbox.pending(epoch, 0, 1)
            if oldest:
                self._sent[epoch] = min(self._sent.get(epoch, 0), oldest[0].seq - 1)

    def offsets(self) -> list[tuple[str, int]]:
        """Boots whose clock was found late, for the birth."""
        return self._outbox.offsets()

    def pending(self) -> int:
        """Events from the oldest unacknowledged to the newest: an upper bound of what waits."""
        count = 0
        for epoch in self._outbox.epochs():
            oldest = self._outbox.pending(epoch, 0, 1)
            if oldest:
                count += self._outbox.bounds(epoch)[1] - oldest[0].seq + 1
        return count

    def turn(self, now_ms: int) -> None:
        """Send what is due: batches whose ack is overdue, then new ones while there is room.

        Raises LinkError from *publish* and JournalError from the journal.
        """
        if not self._up:
            return
        for batch in self._flight:
            if now_ms - batch.sent_ms >= self._ack_timeout_ms:
                self._publish(batch.payload)
                batch.sent_ms = now_ms
                self._totals.resent_batches += 1
        while len(self._flight) < self._limits.inflight_batches:
            batch_found = self._next_words(now_ms) or self._next_batch(now_ms)
            if batch_found is None:
                return
            self._publish(batch_found.payload)
            self._flight.append(batch_found)
            if batch_found.of_events:
                self._sent[batch_found.epoch] = max(batch_found.waiting)

    def replay(self, command: Replay) -> int:
        """Send again what *command* asks for; returns how many events that makes pending.

        Numbers that will never be sent are told as such. Raises MessageError for an epoch the
        journal does not have, JournalError if the disk fails; what was done till then stays done.
        """
        epoch = command.epoch
        if epoch not in self._outbox.held():
            raise MessageError(f"replay of epoch {epoch!r}, which this journal does not have")
        kept_first, last = self._outbox.bounds(epoch)
        last = min(last, command.last)
        count = 0
        for first in range(max(command.first, kept_first), last + 1, _REPLAY_STEP):
            end = min(first + _REPLAY_STEP - 1, last)
            count += self._outbox.replay(epoch, first, end)
            if command.refused:
                count += self._outbox.requeue(epoch, first, end)
        if command.first <= last:
            absent = self._outbox.absent(epoch, command.first, last)
            self._lost.extend(Lost(epoch, *each) for each in absent[:_MOST_LOST])
        self._epochs = self._outbox.epochs()
        self._sent[epoch] = min(self._sent.get(epoch, 0), command.first - 1)
        self._totals.replayed += count
        return count

    def receive_ack(self, payload: bytes, now_ms: int) -> bool:
        """Apply an ack. Nonsense is counted and changes nothing; returns whether it was sense."""
        try:
            ack = decode_ack(payload)
            self._outbox.confirm(ack)
        except MessageError as error:
            self._totals.rejected_messages += 1
            if not self._nonsense_logged:
                log.warning("an ack from the city was ignored: %s", error)
            self._nonsense_logged = True
            return False
        self._totals.last_ack_mono_ms = now_ms
        self._totals.server_time_ms = ack.server_time_ms
        for batch in self._flight:
            if batch.epoch == ack.epoch:
                self._land(batch, ack)
        self._flight = [batch for batch in self._flight if batch.waiting]
        return True

    def _land(self, batch: _Batch, ack: Ack) -> None:
        refused = {nack.seq: nack.code for nack in ack.nack if nack.seq in batch.waiting}
        for seq, code in refused.items():
            # Once for each event: it leaves the flight here.
            if batch.of_events:
                log.error("the city refuses event %d (%s): quarantined", seq, code)
        batch.waiting.difference_update(refused)
        taken = {
            seq
            for seq in batch.waiting
            if seq <= ack.upto or any(first <= seq <= last for first, last in ack.have)
        }
        batch.waiting -= taken
        if batch.of_events:
            self._totals.quarantined += len(refused)
            self._totals.acked += len(taken)

    def _next_words(self, now_ms: int) -> _Batch | None:
        """A batch that says which numbers will never come."""
        if not self._lost:
            return None
        epoch = self._lost[0].epoch
        firsts: set[int] = set()
        bodies: list[bytes] = []
        while self._lost and self._lost[0].epoch == epoch and len(bodies) < MAX_BATCH_EVENTS:
            lost = self._lost.popleft()
            if lost.first not in firsts:
                firsts.add(lost.first)
                bodies.append(encode_lost(lost))
        return _Batch(epoch, firsts, pack(bodies), now_ms, of_events=False)

    def _next_batch(self, now_ms: int) -> _Batch | None:
        while self._epochs:
            epoch = self._epochs[0]
            after = self._sent.get(epoch, 0)
            # An earlier epoch cannot grow any more, so it has nothing to wait for.
            if len(self._epochs) == 1 and not self._worth_reading(epoch, after, now_ms):
                return None
            events = self._outbox.pending(epoch, after, self._limits.batch_events)
            if events:
                self._partial_since_ms = None
                # After a replay the way begins anew below what is in flight.
                flying = set().union(*(b.waiting for b in self._flight if b.epoch == epoch))
                batch = self._assemble(
                    epoch, [stored for stored in events if stored.seq not in flying], now_ms
                )
                if batch is not None:
                    return batch
                self._sent[epoch] = events[-1].seq
            elif len(self._epochs) > 1:
                self._epochs.pop(0)
            else:
                self._sent[epoch] = max(after, self._outbox.bounds(epoch)[1])
                return None
        return None

    def _worth_reading(self, epoch: str, after: int, now_ms: int) -> bool:
        """Whether a full batch may be there, or a partial one has waited long enough."""
        news = self._outbox.bounds(epoch)[1] - after
        if news <= 0:
            self._partial_since_ms = None
            return False
        if news >= self._limits.batch_events:
            return True
        if self._partial_since_ms is None:
            self._partial_since_ms = now_ms
        return now_ms - self._partial_since_ms >= self._linger_ms

    def _assemble(self, epoch: str, events: list[StoredEvent], now_ms: int) -> _Batch | None:
        """A batch of the first of *events* that fit; None when none was fit to send."""
        bodies: list[bytes] = []
        seqs: set[int] = set()
        size = len(b"[]")
        for stored in events:
            try:
                body = encode_event(stored)
            except MessageError:
                self._set_aside(stored, "not_unicode")
                continue
            if len(b"[]") + len(body) > MAX_BATCH_BYTES:
                self._set_aside(stored, "too_big")
                continue
            size += len(body) + len(b",")
            if bodies and size - len(b",") > self._limits.batch_bytes:
                self._partial_since_ms = now_ms - self._linger_ms  # full: the rest need not wait
                break
            bodies.append(body)
            seqs.add(stored.seq)
        return _Batch(epoch, seqs, pack(bodies), now_ms) if bodies else None

    def _set_aside(self, stored: StoredEvent, code: str) -> None:
        """Quarantine an event that can never be sent, as if the city had refused it."""
        log.error("event %d cannot be sent (%s): quarantined", stored.seq, code)
        self._outbox.confirm(Ack(stored.epoch, 0, (), (Nack(stored.seq, code),), 0))
        self._lost.append(Lost(stored.epoch, stored.seq, stored.seq, code))
        self._totals.quarantined += 1
