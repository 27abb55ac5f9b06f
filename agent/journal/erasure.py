"""Erasing what the journal holds of one resident, from the database and from files set aside.

Every row goes, acknowledged or not. One that the city has not acknowledged is recorded as a gap
with the reason "erased", so that its number is not taken for a loss. It is not sent under another
pseudonym instead: the city may have committed it already without our knowing, and would find the
same event with other content. Corrections stay: without the event they refer to, they are nobody's.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import JournalError
from agent.base.events import Moment, person_of
from agent.base.sqlite import sidecars
from agent.journal.database import Database
from agent.journal.rescue.pages import every_row
from agent.journal.rescue.salvage import EPOCH_BYTES, EVENT_ROW, is_row
from agent.journal.resealing import clear_log
from agent.journal.retention import record_gap
from agent.journal.rows import Rows
from agent.journal.sealing import Sealer

ROWS_AT_ONCE = 2000
ERASED = "erased"
SEAL_BYTES = 16  # what AES-GCM adds at the end of a body


@dataclass(frozen=True, slots=True)
class ErasedEvents:
    """How many events went, how many of them the city had not acknowledged, and from which files
    set aside after damage."""

    events: int
    unacknowledged: int
    set_aside: tuple[str, ...]


def erase(path: Path, key: bytes, persons: Collection[str], at_ms: int) -> ErasedEvents:
    """Erase every event of the pseudonyms *persons*; *at_ms* (Unix time) dates the gaps.

    When this returns, no file of the journal holds any of it, not even in freed pages. Raises
    JournalError when the journal is under another key or the disk fails, and when another process
    keeps old pages in use: the events are gone even so, but call again.
    """
    sealer = Sealer(key)
    with closing(Database(path)) as db:
        if db.get("key_check") not in (None, sealer.key_check):
            raise JournalError(
                f"journal {path} was written under another key: put the right device key back"
            )
        rows = Rows(db, sealer)
        events = unacknowledged = last = 0
        with db.write():
            while found := rows.where("WHERE id > ? ORDER BY id LIMIT ?", (last, ROWS_AT_ONCE)):
                last = found[-1][0]
                for number, entry in found:
                    if entry.event is None or person_of(entry.event) not in persons:
                        continue
                    db.execute("DELETE FROM event WHERE id = ?", (number,))
                    events += 1
                    if entry.state != "acked":
                        unacknowledged += 1
                        epoch = bytes.fromhex(entry.epoch)
                        record_gap(db, epoch, entry.seq, entry.seq, ERASED, at_ms)
        clear_log(db)
    try:
        wiped = tuple(_wipe_set_aside(path, sealer, persons))
    except OSError as error:
        raise JournalError(
            f"journal {path}: a file set aside cannot be overwritten: {error.strerror}; call again"
        ) from error
    return ErasedEvents(events, unacknowledged, wiped)


def _wipe_set_aside(path: Path, sealer: Sealer, persons: Collection[str]) -> Iterator[str]:
    """Overwrite the sealed bodies of *persons* in files set aside; the names of those files."""
    numbered = (f for f in path.parent.glob(f"{path.name}.damaged-*") if f.suffix[-1].isdigit())
    for aside in sorted(numbered):
        bodies = _bodies(aside, sealer, persons)
        for file in (aside, *sidecars(aside)):
            if bodies and file.exists() and _overwrite(file, bodies):
                yield file.name


def _bodies(aside: Path, sealer: Sealer, persons: Collection[str]) -> set[bytes]:
    """The sealed bodies of *persons*, in the pieces in which they lie in the file."""
    found: set[bytes] = set()
    for row, pieces in every_row(aside):
        if not is_row(row, EVENT_ROW) or len(row[1]) != EPOCH_BYTES:
            continue
        _, epoch, seq, boot, mono_ms, wall_ms, clock, error_ms, *_, sealed = row
        moment = Moment(boot, mono_ms, wall_ms, clock, error_ms)
        event = sealer.unseal(epoch.hex(), seq, moment, sealed)
        if event is not None and person_of(event) in persons:
            # The body is the record's last column; what lies before it on the page stays.
            before = sum(map(len, pieces)) - len(sealed)
            for piece in pieces:
                found.add(piece[before:])
                before = max(0, before - len(piece))
    # A shorter rest is of the seal's tag, which tells nothing, and might be found elsewhere too.
    return {piece for piece in found if len(piece) >= SEAL_BYTES}


def _overwrite(file: Path, bodies: set[bytes]) -> bool:
    content = file.read_bytes()
    changed = content
    for body in bodies:
        changed = changed.replace(body, bytes(len(body)))
    if changed == content:
        return False
    # In place: a new file would leave the old one's blocks as they are.
    with file.open("r+b") as target:
        target.write(changed)
        target.flush()
        os.fsync(target.fileno())
    return True
