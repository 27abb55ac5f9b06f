"""Answering the city when it lacks something: rows sent again, and what is gone said to be gone.

Functions that change something expect to be called inside ``Database.write()``.
"""

from __future__ import annotations

import json

from agent.base.events import Moment
from agent.journal.database import Database
from agent.journal.ranges import missing, to_ranges
from agent.journal.rows import MAX_SEQ

MOST_OFFSETS = 32
_OFFSETS = "offsets"
GONE = "gone"


def replay(db: Database, epoch: bytes, first: int, last: int) -> int:
    """Acknowledged rows *first* to *last* become pending again; how many."""
    return db.execute(
        "UPDATE event SET state = 'pending', acked_ms = NULL, kept_from_ms = NULL"
        " WHERE state = 'acked' AND epoch = ? AND seq BETWEEN ? AND ?",
        (epoch, min(first, MAX_SEQ), min(last, MAX_SEQ)),
    ).rowcount


def requeue(db: Database, epoch: bytes, first: int, last: int) -> int:
    """Quarantined rows *first* to *last* that can be read become pending again; how many."""
    return db.execute(
        "UPDATE event SET state = 'pending', code = ''"
        " WHERE state = 'quarantined' AND code <> 'damage' AND epoch = ? AND seq BETWEEN ? AND ?",
        (epoch, min(first, MAX_SEQ), min(last, MAX_SEQ)),
    ).rowcount


def absent(db: Database, epoch: bytes, first: int, last: int) -> list[tuple[int, int, str]]:
    """(first, last, code) of all numbers from *first* to *last* that will never be sent.

    The code is the one a row was quarantined with, or "gone" when the row is no longer here.
    """
    span = (epoch, min(first, MAX_SEQ), min(last, MAX_SEQ))
    numbers = db.rows("SELECT seq FROM event WHERE epoch = ? AND seq BETWEEN ? AND ?"
                      " ORDER BY seq", span)  # fmt: skip
    here = to_ranges(seq for (seq,) in numbers)
    found = [(begin, end, GONE) for begin, end in missing(span[1], span[2], here)]
    refused: dict[str, list[int]] = {}
    for seq, code in db.rows(
        "SELECT seq, code FROM event WHERE state = 'quarantined'"
        " AND epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq",
        span,
    ):
        refused.setdefault(code, []).append(seq)
    for code, seqs in refused.items():
        found += [(begin, end, code) for begin, end in to_ranges(seqs)]
    return sorted(found)


def correct(db: Database, now: Moment) -> int:
    """Add the time reckoned from *now* to this boot's events of an unknown clock; how many."""
    of_unknown_time = "boot = ? AND clock NOT IN ('gnss', 'ntp') AND corrected_ms IS NULL"
    if not db.value(f"SELECT 1 FROM event WHERE {of_unknown_time}", (now.boot,)):  # noqa: S608
        return 0
    return db.execute(
        f"UPDATE event SET corrected_ms = ? + mono_ms WHERE {of_unknown_time}",  # noqa: S608
        (_keep_offset(db, now), now.boot),
    ).rowcount


def _keep_offset(db: Database, now: Moment) -> int:
    """Unix less monotonic time of *now*'s boot, as first found; it stays for the city to ask."""
    known = offsets(db)
    for boot, offset_ms in known:
        if boot == now.boot:
            return offset_ms
    offset_ms = now.wall_ms - now.mono_ms
    db.put(_OFFSETS, json.dumps([*known, (now.boot, offset_ms)][-MOST_OFFSETS:]))
    return offset_ms


def offsets(db: Database) -> list[tuple[str, int]]:
    """(boot, offset in ms) of the newest boots whose clock was found after events were stored."""
    return [(boot, offset_ms) for boot, offset_ms in json.loads(db.get(_OFFSETS) or "[]")]
