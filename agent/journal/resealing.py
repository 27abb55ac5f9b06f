"""The whole journal under another key, for when the device key is changed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from agent.base.errors import JournalError
from agent.base.events import Moment
from agent.journal.database import Database
from agent.journal.sealing import Sealer

ROWS_AT_ONCE = 2000
SELECT = (
    "SELECT id, lower(hex(epoch)), seq, boot, mono_ms, wall_ms, clock, error_ms, sealed FROM event"
    " WHERE id > ? ORDER BY id LIMIT ?"
)


def reseal(path: Path, old_key: bytes, new_key: bytes) -> int:
    """Seal every row of the journal at *path* under *new_key* instead of *old_key*; how many.

    In one transaction; 0 where that is done already. Rows that do not open are left: they were
    damaged before. Nothing may have the journal open meanwhile. Raises JournalError if it is under
    a third key or cannot be written.
    """
    old, new = Sealer(old_key), Sealer(new_key)
    with closing(Database(path)) as db:
        known = db.get("key_check")
        changed = 0
        if known != new.key_check:
            if known not in (None, old.key_check):
                raise JournalError(
                    f"journal {path} was written under another key: put the right device key back,"
                    " or move the journal out of the way to begin a new one"
                )
            with db.write():
                changed = _reseal_rows(db, old, new)
                db.put("key_check", new.key_check)
        clear_log(db)
    return changed


def clear_log(db: Database) -> None:
    """Bring the log into the file and empty it: what was overwritten is in neither then.

    Raises JournalError when a reader keeps old pages in use.
    """
    if db.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
        raise JournalError(
            f"journal {db.path}: the change is made, but another process still reads old pages, so"
            " they could not be overwritten; run the same command again"
        )


def _reseal_rows(db: Database, old: Sealer, new: Sealer) -> int:
    last = changed = 0
    while rows := db.execute(SELECT, (last, ROWS_AT_ONCE)).fetchall():
        last = rows[-1][0]
        for number, epoch, seq, boot, mono_ms, wall_ms, clock, error_ms, sealed in rows:
            moment = Moment(boot, mono_ms, wall_ms, clock, error_ms)
            again = old.resealed(epoch, seq, moment, sealed, new)
            if again is not None:
                db.execute("UPDATE event SET sealed = ? WHERE id = ?", (again, number))
                changed += 1
    return changed
