"""The check at boot: is the journal sound, and if not, what can be read goes into a new one.

Nothing is deleted: damaged files are renamed aside with their log. Salvaged rows keep their
identity, and only those whose seal opens are taken over. New events get a new epoch, because the
last numbers of a damaged one cannot be known and must never be given out twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from agent.base.errors import JournalError
from agent.base.events import Moment
from agent.base.sqlite import connect, find_damage, sidecars
from agent.base.wholefile import sync_directory
from agent.journal.database import JOURNAL, Database
from agent.journal.entries import BootReport, Gap
from agent.journal.ranges import missing, to_ranges
from agent.journal.rescue.pages import lost_commits, table_rows
from agent.journal.sealing import Sealer

log = logging.getLogger(__name__)

STATES = ("pending", "acked", "quarantined")
EPOCH_BYTES = 16
ROWS_AT_ONCE = 5000
NOTHING = type(None)
# Columns as they lie in the file, where that of the rowid itself is stored as NULL.
META_ROW = (str, str)
EPOCH_ROW = (NOTHING, bytes, int, int)
GAP_ROW = (bytes, int, int, str, int)
EVENT_ROW = (
    *(NOTHING, bytes, int, str, int, int, str, int),
    *((int, NOTHING), str, (int, NOTHING), (int, NOTHING), str, bytes),
)
EVENT_COLUMNS = (
    "epoch, seq, boot, mono_ms, wall_ms, clock, error_ms, corrected_ms, state, acked_ms,"
    " kept_from_ms, code, sealed"
)


@dataclass
class _Found:
    """What the pages say beside the events, gathered while reading them."""

    key_check: str = ""
    epochs: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # -> (last, upto)
    order: dict[bytes, int] = field(default_factory=dict)  # -> number
    gaps: dict[tuple[bytes, int, str], tuple[int, int]] = field(default_factory=dict)


def check_at_boot(path: Path, sealer: Sealer, at_ms: int) -> BootReport:
    """Check the journal at *path* and salvage it if it is damaged; *at_ms* dates the gaps.

    Call before anything else opens the file. Raises JournalError when the file cannot be reached
    (no permission, no room, held by another program) or was written under another key.
    """
    with JOURNAL.named(path):
        return _check(path, sealer, at_ms)


def _check(path: Path, sealer: Sealer, at_ms: int) -> BootReport:
    finished = _finished(path)
    if finished.exists():  # the power went while the files were changing places
        return _put_in_place(path, finished, "an earlier salvage was interrupted")
    if not path.exists():
        return BootReport()
    damage, torn = _damage(path)
    if damage:
        log.error("the journal is damaged (%s); saving what can be read", damage)
        return _salvage(path, sealer, damage, at_ms)
    if torn:
        log.warning("the end of the journal's log is torn; numbers begin afresh in a new epoch")
        with closing(Database(path)) as db, db.write():
            db.begin_epoch()
    return BootReport(new_epoch=torn)


def _damage(path: Path) -> tuple[str, bool]:
    """What is broken, in words ("" if nothing), and whether the log's last commit is torn."""
    lost = 0
    if path.stat().st_size:
        try:
            lost = lost_commits(sidecars(path)[0])
        except ValueError as error:
            return str(error), False
    if lost > 1:
        return f"{lost} commits in the write-ahead log cannot be read", False
    with closing(connect(path, JOURNAL, read_only=True)) as db:
        return find_damage(db, path, quick=True), lost == 1


def _salvage(path: Path, sealer: Sealer, damage: str, at_ms: int) -> BootReport:
    draft = path.with_name(path.name + ".salvaging")
    for leftover in (draft, *sidecars(draft)):
        leftover.unlink(missing_ok=True)  # ours, from a salvage that was cut short
    found = _Found()
    with closing(Database(draft)) as db:
        with db.write():
            db.execute("DELETE FROM epoch")
        rows = _events(path, sealer, found)
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            with db.write():
                _insert_events(db, batch)
        if found.key_check not in ("", sealer.key_check):
            raise JournalError(
                f"journal {path} is damaged ({damage}) and was written under another key: put the"
                " right device key back, then start again"
            )
        with db.write():
            _insert_epochs(db, found)
            _insert_gaps(db, found, at_ms)
            db.begin_epoch()
            db.put("key_check", sealer.key_check)
        db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    finished = _finished(path)
    draft.rename(finished)
    sync_directory(path.parent)
    return _put_in_place(path, finished, damage)


def _events(path: Path, sealer: Sealer, found: _Found) -> Iterator[tuple[Any, ...]]:
    """(rowid, columns) of all events whose seal opens; everything else goes into *found*."""
    for rowid, row in table_rows(path):
        if is_row(row, EVENT_ROW):
            _, epoch, seq, boot, mono_ms, wall_ms, clock, error_ms, *rest, sealed = row
            corrected_ms, state, *acked = rest
            moment = Moment(boot, mono_ms, wall_ms, clock, error_ms)
            if len(epoch) != EPOCH_BYTES:
                continue
            if sealer.unseal(epoch.hex(), seq, moment, sealed) is None:
                continue
            # The state is not under the seal. When in doubt send again: the city drops repeats.
            state = state if state in STATES else "pending"
            yield rowid, *row[1:8], corrected_ms, state, *acked, sealed
            last, upto = found.epochs.get(epoch, (0, 0))
            found.epochs[epoch] = (max(last, seq), upto)
        elif is_row(row, EPOCH_ROW) and len(row[1]) == EPOCH_BYTES:
            last, upto = found.epochs.get(row[1], (0, 0))
            found.epochs[row[1]] = (max(last, row[2]), max(upto, row[3]))
            found.order[row[1]] = rowid
        elif is_row(row, GAP_ROW):
            epoch, first, last, reason, gap_ms = row
            known = found.gaps.get((epoch, first, reason), (0, 0))
            found.gaps[epoch, first, reason] = max(known, (last, gap_ms))
        elif is_row(row, META_ROW) and row[0] == "key_check":
            found.key_check = found.key_check or row[1]


def is_row(row: tuple[Any, ...], types: tuple[Any, ...]) -> bool:
    """Whether *row* has the columns of *types*, EVENT_ROW for one."""
    return len(row) == len(types) and all(map(isinstance, row, types))


def _insert_events(db: Database, rows: list[tuple[Any, ...]]) -> None:
    """Insert *rows*; of several versions of one event the first stays."""
    marks = ", ".join("?" * len(EVENT_COLUMNS.split(",")))
    insert = f"INSERT OR IGNORE INTO event ({{}}{EVENT_COLUMNS}) VALUES ({{}}{marks})"  # noqa: S608
    for row in rows:
        if not db.execute(insert.format("id, ", "?, "), row).rowcount:
            # Either the event is there already, or a damaged rowid clashes with another's.
            db.execute(insert.format("", ""), row[1:])


def _insert_epochs(db: Database, found: _Found) -> None:
    for epoch in sorted(found.epochs, key=lambda epoch: found.order.get(epoch, 0)):
        db.execute(
            "INSERT INTO epoch (epoch, last, upto) VALUES (?, ?, ?)", (epoch, *found.epochs[epoch])
        )


def _insert_gaps(db: Database, found: _Found, at_ms: int) -> None:
    """Carry gaps over; add what is neither here, nor acknowledged without a hole, nor known."""
    insert = "INSERT INTO gap (epoch, first, last, reason, at_ms) VALUES (?, ?, ?, ?, ?)"
    for (epoch, first, reason), (last, gap_ms) in found.gaps.items():
        db.execute(insert, (epoch, first, last, reason, gap_ms))
    for epoch, (last, upto) in found.epochs.items():
        numbers = db.execute("SELECT seq FROM event WHERE epoch = ? ORDER BY seq", (epoch,))
        here = to_ranges(seq for (seq,) in numbers)
        known = [(key[1], value[0]) for key, value in found.gaps.items() if key[0] == epoch]
        for first, end in missing(upto + 1, last, [*here, *known]):
            db.execute(insert, (epoch, first, end, "damage", at_ms))


def _finished(path: Path) -> Path:
    """The new database's name while it is complete but not yet in place."""
    return path.with_name(path.name + ".salvaged")


def _put_in_place(path: Path, finished: Path, damage: str) -> BootReport:
    """Rename the damaged files aside and *finished* to *path*; may be cut short and begun again."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for old, new in zip(sidecars(path), sidecars(aside), strict=True):
        if old.exists():
            old.rename(new)
    if path.exists():
        path.rename(aside)
    else:
        aside = path.with_name(f"{path.name}.damaged-{max(1, number - 1)}")
    sync_directory(path.parent)
    finished.rename(path)
    sync_directory(path.parent)
    with closing(Database(path)) as db:
        salvaged = db.value("SELECT count(*) FROM event")
        gaps = db.rows(
            "SELECT lower(hex(epoch)), first, last, reason, at_ms FROM gap WHERE reason = 'damage'"
        )
    log.error("%d rows of the journal were saved; the damaged file is %s", salvaged, aside)
    return BootReport(
        damage,
        salvaged,
        tuple(Gap(*gap) for gap in gaps),
        aside,
        new_epoch=True,
    )
