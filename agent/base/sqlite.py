"""Every SQLite file of this project: opened alike, brought up to date, its errors in words.

A ``FileKind`` says what is particular to a file. Trouble with the access to a file is told apart
from damage of its content, because only damage is ever salvaged or restored.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.errors import KaopassError
from agent.base.wholefile import create_file, sync_directory

if TYPE_CHECKING:
    from sqlite_utils import Database

Step = Callable[["Database"], None]

_SHM_BYTES = 32_768
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Trouble(Enum):
    """Why a file cannot be used; the first two are its content's fault, the others the access's."""

    MALFORMED = "malformed"
    NO_DATABASE = "no database"
    FULL_DISK = "full disk"
    LOCKED = "locked"
    READ_ONLY = "read-only"
    OUT_OF_REACH = "out of reach"
    OTHER = "other"

    @property
    def is_damage(self) -> bool:
        return self in (Trouble.MALFORMED, Trouble.NO_DATABASE)


def trouble(error: BaseException | None, path: Path) -> Trouble:
    """What *error*, met while using *path*, comes from.

    By type and text: Python 3.10 does not tell SQLite's codes.
    """
    text = str(error)
    # SQLITE_CORRUPT and SQLITE_NOTADB arrive as DatabaseError itself, everything about access as
    # its subclass OperationalError.
    if type(error) is sqlite3.DatabaseError:
        return Trouble.NO_DATABASE if "not a database" in text else Trouble.MALFORMED
    if isinstance(error, OSError):
        known = dict.fromkeys(_NO_ROOM, Trouble.FULL_DISK) | {errno.EROFS: Trouble.READ_ONLY}
        return known.get(error.errno or 0, Trouble.OUT_OF_REACH)
    # Without room for its -shm file, SQLite speaks of an I/O error only.
    if "is full" in text or ("I/O" in text and _free_bytes(path) < _SHM_BYTES):
        return Trouble.FULL_DISK
    for word, found in (
        ("lock", Trouble.LOCKED),
        ("readonly", Trouble.READ_ONLY),
        ("unable to open", Trouble.OUT_OF_REACH),
    ):
        if word in text:
            return found
    return Trouble.OTHER


@dataclass(frozen=True, slots=True)
class FileKind:
    """What is particular to one kind of file.

    ``steps`` lead from an empty file to today's tables, each under the name it is recorded by;
    ``remedy`` says what to do about damage.
    """

    name: str
    error: type[KaopassError]
    remedy: str
    steps: Mapping[str, Step]
    journal_mode: str = "WAL"
    synchronous: str = "FULL"  # NORMAL may lose a commit at a power cut
    page_bytes: int = 4096
    busy_seconds: float = 10.0

    @contextmanager
    def named(self, path: Path) -> Iterator[None]:
        """Turn SQLite's and the system's errors into ours, with what to do about them."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self.error(f"{self.name} {path}: {self.in_words(path, error)}") from error

    def in_words(self, path: Path, error: BaseException) -> str:
        """What *error*, met on *path*, means and what to do about it."""
        found = trouble(error, path)
        if found.is_damage:
            return f"the file is damaged ({error}); {self.remedy}"
        if found is Trouble.FULL_DISK:
            return (
                f"there is no room left ({error}); free some space in {path.parent}."
                " Nothing was written, and writing goes on by itself once there is room"
            )
        if found is Trouble.LOCKED:
            return f"another program has held it for long ({error}); end that program, or try again"
        if found in (Trouble.READ_ONLY, Trouble.OUT_OF_REACH):
            return (
                f"{error}; check that {path.parent} exists, that {path.name} is a file there, and"
                " that this user may write to both"
            )
        return str(error)

    def prepare(self, db: sqlite3.Connection, path: Path) -> None:
        """Make *db*, just opened on *path*, as safe as this kind is to be."""
        db.execute(f"PRAGMA page_size = {self.page_bytes}")  # holds for a file without tables only
        mode = db.execute(f"PRAGMA journal_mode = {self.journal_mode}").fetchone()[0]
        if mode not in (self.journal_mode.lower(), "memory"):
            raise self.error(
                f"{self.name} {path}: its file system cannot do {self.journal_mode};"
                " use a local disk"
            )
        db.execute(f"PRAGMA synchronous = {self.synchronous}")
        db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten where it lay


def open_file(
    path: Path,
    kind: FileKind,
    *,
    checked: bool = True,
    read_only: bool = False,
    busy_seconds: float | None = None,
) -> sqlite3.Connection:
    """The file at *path*, made (mode 0600) if there is none, sound and with today's tables.

    Any thread may use the connection, one at a time; what is not inside ``transaction`` is
    committed by itself. Without *checked* the file is not read through first, which takes seconds
    in a large one. Raises the kind's error when a newer program wrote it, or *read_only* an older
    one; sqlite3.Error and OSError when it cannot be used, which ``trouble`` tells apart.
    """
    if not read_only:
        create_file(path)
    db = connect(path, kind, read_only=read_only, busy_seconds=busy_seconds)
    try:
        if checked and (damage := find_damage(db, path)):
            raise sqlite3.DatabaseError(damage)
        if not read_only:
            kind.prepare(db, path)
        migrate(db, path, kind, read_only=read_only)
    except BaseException:
        db.close()
        raise
    return db


def connect(
    path: Path, kind: FileKind, *, read_only: bool = False, busy_seconds: float | None = None
) -> sqlite3.Connection:
    """A bare connection to the file at *path*, which is there."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",  # SQLite would make a file for everybody to read
        uri=True,
        timeout=kind.busy_seconds if busy_seconds is None else busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    if read_only:
        db.execute("PRAGMA query_only = ON")
    return db


def find_damage(db: sqlite3.Connection, path: Path, *, quick: bool = False) -> str:
    """What is broken in the file behind *db*, on one line; "" if nothing. Reads all of it.

    With *quick* indexes are not compared with their tables. Raises sqlite3.Error when the file
    cannot be read for another reason than its content.
    """
    log = sidecars(path)[0]
    if path.stat().st_size == 0 and log.exists() and log.stat().st_size > 0:
        return "the file is empty but its log is not"  # SQLite would delete the log
    try:
        check = "quick_check" if quick else "integrity_check"
        found = [str(row[0]) for row in db.execute(f"PRAGMA {check}(3)")]
    except sqlite3.DatabaseError as error:
        if not trouble(error, path).is_damage:
            raise
        return str(error)
    return "" if found == ["ok"] else "; ".join(" ".join(line.split()) for line in found)


def migrate(db: sqlite3.Connection, path: Path, kind: FileKind, *, read_only: bool = False) -> None:
    """Take the steps that are missing, all of them and their record in one transaction."""
    done = set(_recorded(db, kind.name))
    if newer := done - kind.steps.keys():
        raise kind.error(
            f"{kind.name} {path} was written by a newer kaopass"
            f" (it has {', '.join(sorted(newer))}): install that version again"
        )
    if done == kind.steps.keys():
        return
    if read_only:
        raise kind.error(
            f"{kind.name} {path} has an older layout: start the agent once to convert it"
        )
    from sqlite_utils import Database  # noqa: PLC0415 - a tenth of a second, seldom needed
    from sqlite_utils.migrations import Migrations  # noqa: PLC0415

    missing = Migrations(kind.name)
    for name, step in kind.steps.items():
        missing(name=name)(step)
    # One transaction around all, so that two processes cannot both begin with an empty file.
    with transaction(db):
        missing.apply(Database(db, recursive_triggers=False, execute_plugins=False))


def _recorded(db: sqlite3.Connection, name: str) -> Iterator[str]:
    table = "_sqlite_migrations"  # sqlite-utils' own
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
        for row in db.execute(f"SELECT name FROM {table} WHERE migration_set = ?", (name,)):  # noqa: S608 - fixed name
            yield row[0]


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction, which waits for other writers first; on the disk when this ends.

    Undone when the block, or the commit, raises.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back after some errors, such as a full disk.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def copy_whole(source: sqlite3.Connection, target: Path) -> None:
    """A copy of *source* as of one moment, while others write: one file, mode 0600, at *target*.

    Raises sqlite3.Error and OSError; nothing new is at *target* then.
    """
    draft = target.with_name(f".{target.name}.part")
    try:
        create_file(draft)
        with closing(sqlite3.connect(draft)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # nothing beside it
        draft.rename(target)
        sync_directory(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def sidecars(path: Path) -> list[Path]:
    """The files SQLite keeps beside *path*, its write-ahead log first."""
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")]


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return _SHM_BYTES
