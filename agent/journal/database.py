"""The file ``journal.db``: how it is opened, its schema, and its errors in words."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database as Utilities
from sqlite_utils.migrations import Migrations

from agent.base.errors import JournalError
from agent.base.wholefile import create_file

PAGE_BYTES = 4096
BUSY_SECONDS = 5.0
SHM_BYTES = 32_768

migrations = Migrations("journal")


@migrations()
def events_by_epoch(db: Utilities) -> None:
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


KNOWN_MIGRATIONS = frozenset({events_by_epoch.__name__})


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
            if not read_only:
                _create(path)
            self._connection = connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                if read_only:
                    connection.execute("PRAGMA query_only = ON")
                else:
                    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                    connection.execute("PRAGMA journal_mode = WAL")
                    # NORMAL does not sync the log at a commit: a power cut would lose events.
                    connection.execute("PRAGMA synchronous = FULL")
                    connection.execute("PRAGMA secure_delete = ON")
                self._migrate(read_only=read_only)
            except BaseException:
                connection.close()
                raise

    def _migrate(self, *, read_only: bool) -> None:
        utilities = Utilities(self._connection, recursive_triggers=False, execute_plugins=False)
        done = {migration.name for migration in migrations.applied(utilities)}
        if newer := done - KNOWN_MIGRATIONS:
            raise JournalError(
                f"journal {self.path} was written by a newer kaopass"
                f" (it has {', '.join(sorted(newer))}): install that version again"
            )
        if done == KNOWN_MIGRATIONS:
            return
        if read_only:
            raise JournalError(
                f"journal {self.path} has an older layout: start the agent once to convert it"
            )
        # One transaction around all, so that two processes cannot both begin with an empty file.
        with self.write():
            migrations.apply(utilities)
            if self.value("SELECT count(*) FROM epoch") == 0:
                self.begin_epoch()

    def begin_epoch(self) -> str:
        """Make a new random epoch the current one. Call inside ``write()``."""
        epoch = secrets.token_bytes(16)
        self.execute("INSERT INTO epoch (epoch, last, upto) VALUES (?, 0, 0)", (epoch,))
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
        with self.named():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # SQLite has already rolled back after some errors, such as a full disk.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn SQLite's and the system's errors into ours, with what to do about them."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"journal {self.path}: {in_words(self.path, error)}") from error

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


def sidecars(path: Path) -> list[Path]:
    """The files SQLite keeps beside *path*."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    create_file(path)


def is_full(error: BaseException | None) -> bool:
    """Whether *error* says that there is no room left."""
    return isinstance(error, sqlite3.OperationalError) and "is full" in str(error)


def is_damage(error: BaseException | None) -> bool:
    """Whether *error* says that the file's content is broken, rather than the access to it.

    SQLITE_CORRUPT and SQLITE_NOTADB arrive as DatabaseError itself, everything about access as
    its subclass OperationalError.
    """
    return type(error) is sqlite3.DatabaseError


def in_words(path: Path, error: Exception) -> str:
    """What *error*, met on *path*, means and what to do about it."""
    text = str(error)
    # Without room for its -shm file, SQLite speaks of an I/O error only.
    if is_full(error) or ("I/O" in text and shutil.disk_usage(path.parent).free < SHM_BYTES):
        return (
            f"there is no room left ({text}); free some space in {path.parent}."
            " Nothing was recorded, and recording goes on by itself once there is room"
        )
    if is_damage(error):
        return f"the file is damaged ({text}); restart the agent, which saves what can be read"
    if "locked" in text:
        return f"another program has held it for {BUSY_SECONDS:g} s; end that program"
    if "unable to open" in text or "readonly" in text or isinstance(error, OSError):
        return f"{text}; check that {path.parent} exists and that this user may write there"
    return text
