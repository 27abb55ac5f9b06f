"""Which rows leave the journal: acknowledged ones after their time, others only to make room.

Age is powered-on time, added up from CLOCK_MONOTONIC over the boots, never from a wall clock: a
clock at 1970, ten years ahead or stepping back deletes nothing early. Every function expects to
be called inside ``Database.write()``.
"""

from __future__ import annotations

from agent.base.events import Moment
from agent.journal.database import Database
from agent.journal.ranges import to_ranges

EVICT_ROWS = 256
LOW_DISK_BYTES = 16 * 1024 * 1024
SPARE_BYTES = 256 * 1024
# Acknowledged rows are no loss; quarantined ones the city has refused; pending ones go last.
EVICTIONS = (("acked", ""), ("quarantined", "quota, quarantined"), ("pending", "quota"))


def expire(db: Database, now: Moment, keep_ms: int) -> int:
    """Delete rows that have been acknowledged for *keep_ms* of powered-on time; how many."""
    powered_ms = _powered_on(db, now)
    # The time of an ack is taken from the first look after it, so it is never early.
    db.execute(
        "UPDATE event SET kept_from_ms = ? WHERE state = 'acked' AND kept_from_ms IS NULL",
        (powered_ms,),
    )
    return db.execute(
        "DELETE FROM event WHERE state = 'acked' AND kept_from_ms <= ?", (powered_ms - keep_ms,)
    ).rowcount


def _powered_on(db: Database, now: Moment) -> int:
    powered_ms = int(db.get("powered_ms") or 0)
    boot = db.get("boot")
    if boot == now.boot:
        powered_ms += max(0, now.mono_ms - int(db.get("mono_ms") or 0))
    elif boot is not None:
        powered_ms += max(0, now.mono_ms)  # this boot began after the last look in the one before
    db.put("powered_ms", str(powered_ms))
    db.put("boot", now.boot)
    db.put("mono_ms", str(now.mono_ms))
    return powered_ms


def evict(db: Database, max_bytes: int, at_ms: int) -> int:
    """Delete the oldest rows, the least needed kind first, until *max_bytes* suffice; how many.

    What the city had not acknowledged is recorded as a gap.
    """
    gone = 0
    for state, reason in EVICTIONS:
        while db.used_bytes > max_bytes:
            deleted = _delete_oldest(db, state, reason, at_ms)
            gone += deleted
            if not deleted:
                break
    return gone


def make_room(db: Database) -> None:
    """While the disk is nearly full, let acknowledged rows go so that the file need not grow.

    Room inside the file is kept ready before the last of the disk is gone: on a full one not even
    a deletion could be written.
    """
    if db.disk_free_bytes < LOW_DISK_BYTES and db.spare_bytes < SPARE_BYTES:
        _delete_oldest(db, "acked", "", 0)


def _delete_oldest(db: Database, state: str, reason: str, at_ms: int) -> int:
    rows = db.execute(
        "SELECT id, epoch, seq FROM event WHERE state = ? ORDER BY id LIMIT ?", (state, EVICT_ROWS)
    ).fetchall()
    db.execute("DELETE FROM event WHERE state = ? AND id <= ?", (state, rows[-1][0] if rows else 0))
    if reason:
        by_epoch: dict[bytes, list[int]] = {}
        for _, epoch, seq in rows:
            by_epoch.setdefault(epoch, []).append(seq)
        for epoch, numbers in by_epoch.items():
            for first, last in to_ranges(numbers):
                record_gap(db, epoch, first, last, reason, at_ms)
    return len(rows)


def record_gap(db: Database, epoch: bytes, first: int, last: int, reason: str, at_ms: int) -> None:
    """Write down that *first* to *last* were lost, as one record with what they continue."""
    extended = db.execute(
        "UPDATE gap SET last = ?, at_ms = ? WHERE epoch = ? AND reason = ? AND last = ?",
        (last, at_ms, epoch, reason, first - 1),
    ).rowcount
    if not extended:
        db.execute(
            "INSERT INTO gap (epoch, first, last, reason, at_ms) VALUES (?, ?, ?, ?, ?)",
            (epoch, first, last, reason, at_ms),
        )
