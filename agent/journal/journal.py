"""The journal: events in the order they happened, kept until the city has them.

The pipeline calls ``append()``; sync calls ``pending()`` and ``confirm()``; the agent calls
``prune()`` every few minutes and ``correct()`` when the clock becomes known. Delivery is at least
once: the city drops repeats by (device, epoch, seq).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType

from agent.base.errors import JournalError, MessageError
from agent.base.events import Event, Moment, StoredEvent
from agent.base.sqlite import sidecars
from agent.base.values import Ack
from agent.journal import replays, retention
from agent.journal.acks import check_ack, storable_code
from agent.journal.database import Database
from agent.journal.entries import BootReport, Entry, Gap, Stats
from agent.journal.rescue.salvage import check_at_boot
from agent.journal.rows import MAX_SEQ, Rows, as_stored
from agent.journal.sealing import Sealer

log = logging.getLogger(__name__)

MAX_BYTES = 512 * 1024 * 1024
DAY_MS = 86_400_000

INSERT = (
    "INSERT INTO event (epoch, seq, boot, mono_ms, wall_ms, clock, error_ms, state, code, sealed)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', '', ?)"
)


class Journal:
    """Events on disk, as ``EventLog`` for the pipeline and ``Outbox`` for sync.

    Open one for each thread: an object may be handed to another thread, never shared. Other
    processes may read meanwhile. *key* is 32 bytes; *keep_days* is powered-on time an acknowledged
    event stays for replay; *max_bytes* bounds the database file (its log adds a few MB). Raises
    JournalError when the file cannot be used or was written under another key.
    """

    def __init__(
        self,
        path: Path,
        key: bytes,
        *,
        keep_days: float = 7.0,
        max_bytes: int = MAX_BYTES,
        read_only: bool = False,
    ) -> None:
        self._sealer = Sealer(key)
        self._keep_ms = int(keep_days * DAY_MS)
        self._max_bytes = max_bytes
        self._db = Database(path, read_only=read_only)
        self._rows = Rows(self._db, self._sealer)
        try:
            self._check_key(read_only=read_only)
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def open_checked(
        cls,
        path: Path,
        key: bytes,
        *,
        now: Moment,
        keep_days: float = 7.0,
        max_bytes: int = MAX_BYTES,
    ) -> tuple[Journal, BootReport]:
        """Check the file first and salvage it if it is damaged; for the first opening of a boot.

        A damaged file is renamed aside, never deleted; what was lost is among ``gaps()``.
        """
        report = check_at_boot(path, Sealer(key), now.wall_ms)
        return cls(path, key, keep_days=keep_days, max_bytes=max_bytes), report

    def _check_key(self, *, read_only: bool) -> None:
        known = self._db.get("key_check")
        if known is None and not read_only:
            with self._db.write():
                self._db.put("key_check", self._sealer.key_check)
        elif known != self._sealer.key_check:
            raise JournalError(
                f"journal {self._db.path} was written under another key: put the right device key"
                " back, or move the journal out of the way to begin a new one"
            )

    # The pipeline's side.

    def append(self, event: Event) -> StoredEvent:
        """Store *event*; it is synced to the disk when this returns.

        Raises JournalError when it cannot be; nothing of it is stored then, and its number is
        not used up.
        """
        moment = event.moment
        with self._db.write():
            if self._db.used_bytes > self._max_bytes:
                gone = retention.evict(self._db, self._max_bytes, moment.wall_ms)
                log.warning("the journal is over its quota: %d of its oldest rows went", gone)
            retention.make_room(self._db)
            number, epoch, last = self._db.execute(
                "SELECT number, epoch, last FROM epoch ORDER BY number DESC LIMIT 1"
            ).fetchone()
            seq = last + 1
            sealed = self._sealer.seal(epoch.hex(), seq, event)
            self._db.execute("UPDATE epoch SET last = ? WHERE number = ?", (seq, number))
            self._db.execute(
                INSERT,
                (
                    *(epoch, seq, moment.boot, moment.mono_ms, moment.wall_ms),
                    *(moment.clock, moment.error_ms, sealed),
                ),
            )
        return StoredEvent(epoch.hex(), seq, event)

    def recent(self, limit: int) -> list[StoredEvent]:
        """The newest *limit* events, newest first."""
        rows = self._rows.where("ORDER BY id DESC LIMIT ?", (limit,))
        return [stored for _, entry in rows if (stored := as_stored(entry))]

    # Sync's side.

    @property
    def epoch(self) -> str:
        """The epoch new events belong to: 32 hex digits."""
        return self._epochs()[-1]

    def epochs(self) -> list[str]:
        """Epochs with unacknowledged events, oldest first; the current one is always last."""
        *older, current = self._epochs()
        return [*(epoch for epoch in older if self.pending(epoch, 0, 1)), current]

    def bounds(self, epoch: str) -> tuple[int, int]:
        """(first, last): the oldest event of *epoch* still kept, the last number handed out.

        first is last + 1 when none is kept. Raises JournalError if there is no such epoch.
        """
        name = _epoch_bytes(epoch)
        last = self._db.value("SELECT last FROM epoch WHERE epoch = ?", (name,))
        if last is None:
            raise JournalError(f"journal {self._db.path} has no epoch {epoch!r}")
        first = self._db.value("SELECT min(seq) FROM event WHERE epoch = ?", (name,))
        return (last + 1 if first is None else first), last

    def pending(self, epoch: str, after: int, limit: int) -> list[StoredEvent]:
        """Unacknowledged events of *epoch* with seq > *after*, in order, at most *limit*.

        A row that no longer opens is set aside as quarantined with code "damage", so that it
        holds up none behind it.
        """
        while True:
            rows = self._rows.where(
                "WHERE state = 'pending' AND epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
                (_epoch_bytes(epoch), after, limit),
            )
            damaged = [row for row, entry in rows if entry.event is None]
            if not damaged:
                return [stored for _, entry in rows if (stored := as_stored(entry))]
            log.error("%d rows of the journal are damaged and were set aside", len(damaged))
            with self._db.write():
                for row in damaged:
                    self._db.execute(
                        "UPDATE event SET state = 'quarantined', code = 'damage' WHERE id = ?",
                        (row,),
                    )

    def confirm(self, ack: Ack) -> int:
        """Apply what the city says it has; returns how many rows changed.

        Refused events are quarantined first; what is quarantined stays so, and what the city has
        is not refused afterwards. Raises MessageError for an ack that cannot be true, and nothing
        has changed then.
        """
        epoch = _epoch_bytes(ack.epoch)
        with self._db.write():
            known = self._epochs()
            if ack.epoch not in known:
                raise MessageError(f"ack for epoch {ack.epoch!r}, which this journal does not have")
            is_current = ack.epoch == known[-1]
            check_ack(ack, self.bounds(ack.epoch)[1] if is_current else None)
            changed = 0
            for nack in ack.nack:
                changed += self._db.execute(
                    "UPDATE event SET state = 'quarantined', code = ?"
                    " WHERE state = 'pending' AND epoch = ? AND seq = ?",
                    (storable_code(nack.code), epoch, nack.seq),
                ).rowcount
            for first, last in ((1, ack.upto), *ack.have):
                changed += self._db.execute(
                    "UPDATE event SET state = 'acked', acked_ms = ?"
                    " WHERE state = 'pending' AND epoch = ? AND seq BETWEEN ? AND ?",
                    (ack.server_time_ms, epoch, first, last),
                ).rowcount
            self._db.execute(
                "UPDATE epoch SET upto = ? WHERE epoch = ? AND upto < ?",
                (ack.upto, epoch, ack.upto),
            )
        return changed

    def replay(self, epoch: str, first: int, last: int) -> int:
        """Make acknowledged events *first* to *last* pending again; returns how many.

        Raises MessageError if there is no such epoch.
        """
        with self._db.write():
            return replays.replay(self._db, self._known(epoch), first, last)

    def requeue(self, epoch: str, first: int, last: int) -> int:
        """Make quarantined events *first* to *last* pending again; returns how many.

        Damaged rows stay. Raises MessageError if there is no such epoch.
        """
        with self._db.write():
            return replays.requeue(self._db, self._known(epoch), first, last)

    def absent(self, epoch: str, first: int, last: int) -> list[tuple[int, int, str]]:
        """(first, last, code) of what of *first* to *last* will never be sent, in order.

        Beyond the last number handed out nothing is absent. Raises MessageError if there is no
        such epoch.
        """
        known = self._known(epoch)
        return replays.absent(self._db, known, first, min(last, self.bounds(epoch)[1]))

    def held(self) -> list[str]:
        """Every epoch this journal knows, oldest first; the current one is last."""
        return self._epochs()

    def offsets(self) -> list[tuple[str, int]]:
        """(boot, Unix less monotonic ms) of boots whose clock was found after events came."""
        return replays.offsets(self._db)

    # Upkeep.

    def correct(self, now: Moment) -> int:
        """Add the time reckoned from *now* to this boot's events of an unknown clock; how many.

        Does nothing unless *now* itself comes from "gnss" or "ntp". An event is corrected once.
        """
        if not now.is_known:
            return 0
        with self._db.write():
            return replays.correct(self._db, now)

    def prune(self, now: Moment) -> int:
        """Delete acknowledged events past their time, and what is over the quota; how many."""
        with self._db.write():
            gone = retention.expire(self._db, now, self._keep_ms)
            return gone + retention.evict(self._db, self._max_bytes, now.wall_ms)

    def gaps(self) -> list[Gap]:
        """Everything that was lost before the city had it, in the order it was noticed."""
        rows = self._db.rows(
            "SELECT lower(hex(epoch)), first, last, reason, at_ms FROM gap ORDER BY rowid"
        )
        return [Gap(*row) for row in rows]

    def stats(self) -> Stats:
        counts = dict(self._db.rows("SELECT state, count(*) FROM event GROUP BY state"))
        gaps, lost = self._db.rows("SELECT count(*), coalesce(sum(last - first + 1), 0) FROM gap")[
            0
        ]
        epoch = self.epoch
        first, last = self.bounds(epoch)
        files = (self._db.path, *sidecars(self._db.path))
        return Stats(
            epoch=epoch,
            first=first,
            last=last,
            pending=counts.get("pending", 0),
            acked=counts.get("acked", 0),
            quarantined=counts.get("quarantined", 0),
            gaps=gaps,
            lost=lost,
            disk_bytes=sum(file.stat().st_size for file in files if file.exists()),
        )

    def entries(
        self,
        *,
        first: int = 1,
        last: int | None = None,
        states: Collection[str] = (),
        kinds: Collection[str] = (),
        newest_first: bool = False,
    ) -> Iterator[Entry]:
        """Rows for people, in order; empty *states* or *kinds* mean all of them."""
        last = MAX_SEQ if last is None else last
        return self._rows.entries(first, last, states, kinds, newest_first)

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _known(self, epoch: str) -> bytes:
        """*epoch* as stored. Raises MessageError if this journal does not have it."""
        if epoch not in self._epochs():
            raise MessageError(f"epoch {epoch!r} was asked for, which this journal does not have")
        return _epoch_bytes(epoch)

    def _epochs(self) -> list[str]:
        rows = self._db.rows("SELECT lower(hex(epoch)) FROM epoch ORDER BY number")
        return [epoch for (epoch,) in rows]


def _epoch_bytes(epoch: str) -> bytes:
    """The epoch as stored; what is no epoch at all matches none."""
    try:
        return bytes.fromhex(epoch)
    except ValueError:
        return b""
