"""The file ``journal.db``: how it is opened, its schema, and its errors in words."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.base.errors import JournalError
from agent.base.sqlite import FileKind, open_file, transaction

if TYPE_CHECKING:
    from sqlite_utils import Database as Utilities


def _events_by_epoch(db: Utilities) -> None:
    """Version 1. ``epoch.upto`` is all the city has acknowledged without a hole."""
    for statement in (
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE epoch (number INTEGER PRIMARY KEY, epoch BLOB NOT NULL UNIQUE,"
        " last INTEGER NOT NULL, upto INTEGER NOT NULL)",
        # Each row carries its whole epoch, so that it can be told from the page alone after damage.
        "CREATE TABLE event (id INTEGER PRIMARY KEY, epoch BLOB NOT NULL, seq INTEGER NOT NULL,"
        " boot TEXT NOT NULL, mono_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL,"
        " clock TEXT NOT NULL, error_ms INTEGER NOT NULL, corrected_ms INTEGER,"
        " state TEXT NOT NULL CHECK (state IN ('pending', 'acked', 'quarantined')),"
        " acked_ms INTEGER, kept_from_ms INTEGER, code TEXT NOT NULL, sealed BLOB NOT NULL,"
        " UNIQUE (epoch, seq))",
        "CREATE INDEX event_pending ON event (epoch, seq) WHERE state = 'pending'",
        "CREATE TABLE gap (epoch BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,"
        " reason TEXT NOT NULL, at_ms INTEGER NOT NULL)",
    ):
        db.execute(statement)
    db.execute(NEW_EPOCH, [secrets.token_bytes(16)])


NEW_EPOCH = "INSERT INTO epoch (epoch, last, upto) VALUES (?, 0, 0)"
JOURNAL = FileKind(
    name="journal",
    error=JournalError,
    remedy="restart the agent, which saves what can be read",
    steps={"events_by_epoch": _events_by_epoch},
    busy_seconds=5.0,
)
PAGE_BYTES = JOURNAL.page_bytes


class Database:
    """One connection to a journal file; every SQLite error leaves as a JournalError.

    Writers create the file (mode 0600) and bring its schema up to date; a *read_only* one needs
    an existing journal and changes nothing in it.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.exists():
            raise JournalError(
                f"there is no journal at {path} yet: the agent makes it when it runs"
            )
        with self.named():
            path.parent.mkdir(parents=True, exist_ok=True)
            # The whole file is read once a boot, by ``check_at_boot``, not by every thread.
            self._connection = open_file(path, JOURNAL, checked=False, read_only=read_only)

    def begin_epoch(self) -> str:
        """Make a new random epoch the current one. Call inside ``write()``."""
        epoch = secrets.token_bytes(16)
        self.execute(NEW_EPOCH, (epoch,))
        return epoch.hex()

    def execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def rows(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        with self.named():
            return self._connection.execute(statement, values).fetchall()

    def value(self, statement: str, values: Any = ()) -> Any:
        """The first column of the first row, None when there is no row."""
        with self.named():
            row = self._connection.execute(statement, values).fetchone()
            return None if row is None else row[0]

    def get(self, name: str) -> str | None:
        """A value of the table ``meta``."""
        found: str | None = self.value("SELECT value FROM meta WHERE name = ?", (name,))
        return found

    def put(self, name: str, value: str) -> None:
        self.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    @contextmanager
    def write(self) -> Iterator[None]:
        """One transaction, on the disk when this ends, or undone when it raises."""
        with self.named(), transaction(self._connection):
            yield

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn SQLite's and the system's errors into ours, with what to do about them."""
        with JOURNAL.named(self.path):
            yield

    @property
    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        return int(self.value("PRAGMA page_count")) * PAGE_BYTES - self.spare_bytes

    @property
    def spare_bytes(self) -> int:
        """Bytes of free pages inside the file, to be filled before it grows."""
        return int(self.value("PRAGMA freelist_count")) * PAGE_BYTES

    @property
    def disk_free_bytes(self) -> int:
        return shutil.disk_usage(self.path.parent).free

    def close(self) -> None:
        with self.named():
            self._connection.close()
