"""The file under the gallery: opened, checked, brought up to date, salvaged when broken."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from agent.base.errors import GalleryError
from agent.base.sqlite import FileKind, connect, migrate, open_file, transaction, trouble
from agent.base.wholefile import create_file, sync_directory

logger = logging.getLogger(__name__)

# Row numbers tried in a broken stretch. An inner page of the tree leads to some 11,000 templates.
MAX_UNREADABLE_RUN = 20_000
_ZEROS = bytes(2**20)
WRAPPED_BYTES = 60  # a person's key with nonce and tag
COLUMNS = {
    "meta": "key, value",
    "person": "ref, wrapped_key, profile",
    "template": "id, ref, pack, sealed",
}


def _people(db: Database) -> None:
    db.table("meta").create({"key": str, "value": bytes}, pk="key", not_null={"value"})
    db.table("person").create(
        {"ref": bytes, "wrapped_key": bytes, "profile": bytes},
        pk="ref",
        not_null={"wrapped_key", "profile"},
    )
    # No foreign key: what is left of a damaged gallery must still fit.
    db.table("template").create(
        {"id": int, "ref": bytes, "pack": str, "sealed": bytes},
        pk="id",
        not_null={"ref", "pack", "sealed"},
    )
    db.table("template").create_index(["ref", "pack"], index_name="template_by_ref")


def _city(db: Database) -> None:
    # A version of the city's on its way in: whole buckets, and their residents ready to be moved
    # into ``person``. Their templates lie in ``template`` already, where nobody looks for them.
    db.table("staged_bucket").create(
        {"number": int, "digest": bytes}, pk="number", not_null={"digest"}
    )
    db.table("staged").create(
        {"ref": bytes, "number": int, "slot": bytes, "wrapped_key": bytes, "profile": bytes},
        pk="ref",
        not_null={"number", "slot", "wrapped_key", "profile"},
    )
    db.table("staged").create_index(["number"], index_name="staged_by_number")


GALLERY = FileKind(
    name="gallery",
    error=GalleryError,
    remedy="run: kaopass gallery verify, which sets it aside and keeps what can be read",
    steps={"1_people": _people, "2_city": _city},
    # Seven templates of 512 values share a page of this size; in SQLite's 4096 each would fill one.
    page_bytes=16_384,
)
PAGE_BYTES, BUSY_SECONDS = GALLERY.page_bytes, GALLERY.busy_seconds


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was done about a broken file: where it is now, and what could be read from it."""

    reason: str
    aside: Path
    people: int
    templates: int


def open_database(
    path: Path, busy_seconds: float, *, checked: bool = False
) -> tuple[Database, Salvage | None]:
    """Open the gallery file at *path*, made if there is none; a broken one is salvaged first.

    Returns a connection for use from any thread, one at a time. With *checked* this process has
    read the whole file already, which takes seconds in a large one. Raises GalleryError when the
    file cannot be used for a reason that salvage does not cure, and sqlite3.Error.
    """
    with _one_process_at_a_time(path):
        _finish_salvage(path)
        try:
            return _prepared(path, busy_seconds, checked=checked), None
        except sqlite3.DatabaseError as error:
            if not trouble(error, path).is_damage:
                raise
            salvage = _salvage(path, str(error))
        logger.error(
            "gallery %s was damaged (%s): set aside as %s, %d people and %d templates kept",
            path, salvage.reason, salvage.aside.name, salvage.people, salvage.templates,
        )  # fmt: skip
        return _prepared(path, busy_seconds), salvage


def _prepared(path: Path, busy_seconds: float, *, checked: bool = False) -> Database:
    db = open_file(path, GALLERY, checked=not checked, busy_seconds=busy_seconds)
    try:
        # A revocation that was cut short left its old pages in the log: this overwrites them.
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except BaseException:
        db.close()
        raise
    return _wrapped(db)


def _wrapped(db: sqlite3.Connection) -> Database:
    # A flipped bit in a text must not keep the other rows from being read.
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")
    return Database(db, execute_plugins=False)


def new_version() -> bytes:
    """A value that tells two states of the gallery apart."""
    return secrets.token_bytes(8)


@contextmanager
def _one_process_at_a_time(path: Path) -> Iterator[None]:
    """So that an agent and a command never create or salvage the same gallery together."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _salvage(path: Path, reason: str) -> Salvage:
    """Copy what can be read into a fresh file, set the broken one aside, put the fresh one there.

    The broken file stays in place until the fresh one is complete; from the first rename on, a
    cut is made good at the next opening by ``_finish_salvage``.
    """
    fresh = _fresh(path)
    fresh.unlink(missing_ok=True)
    fresh.with_name(f"{fresh.name}-journal").unlink(missing_ok=True)
    create_file(fresh)
    with closing(_wrapped(connect(fresh, GALLERY))) as target:
        # Not the kind's own log: this file has nothing beside it until it is in place.
        target.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        target.execute("PRAGMA synchronous = FULL")
        # Pages that are split while rows come in would keep copies that no deletion finds.
        target.execute("PRAGMA secure_delete = ON")
        migrate(target.conn, fresh, GALLERY)
        with transaction(target.conn):
            copied = _copy_tables(path, target)
            # A running agent must notice that this is another state.
            target.execute("UPDATE meta SET value = ? WHERE key = 'version'", [new_version()])
    aside = _aside(path, _asides(path) + 1)
    path.rename(aside)
    _finish_salvage(path)
    return Salvage(reason, aside, copied["person"], copied["template"])


def _finish_salvage(path: Path) -> None:
    fresh = _fresh(path)
    if path.exists() or not fresh.exists():
        return
    log = path.with_name(f"{path.name}-wal")
    if log.exists():
        # SQLite finds the log by its name; under the old name it would be played into the new file.
        aside = _aside(path, _asides(path))
        log.rename(aside.with_name(f"{aside.name}-wal"))
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    fresh.rename(path)
    sync_directory(path.parent)


def _copy_tables(path: Path, target: Database) -> dict[str, int]:
    if path.stat().st_size == 0:
        return dict.fromkeys(COLUMNS, 0)  # to look at it would make SQLite delete its log
    with closing(_wrapped(connect(path, GALLERY))) as broken:
        # Without this SQLite reads nothing at all of a file that is cut off.
        broken.execute("PRAGMA writable_schema = ON")
        return {table: _copy_readable(broken, target, table) for table in COLUMNS}


def _copy_readable(broken: Database, target: Database, table: str) -> int:
    """Copy the rows of *table* that can be read; returns how many are in *target* then."""
    columns = COLUMNS[table]
    marks = ", ".join("?" for _ in columns.split(","))
    for row in _readable_rows(broken, table, columns):
        # Ignored: a row read twice through a broken tree, and one that lost a column.
        target.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608 - fixed names
    return target.table(table).count


def _readable_rows(broken: Database, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    query = f"SELECT rowid, {columns} FROM {table} NOT INDEXED WHERE rowid >= ? ORDER BY rowid"  # noqa: S608 - fixed names
    try:
        broken.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError:
        return  # not even the names of the tables are left
    number = failures = 0
    while failures < MAX_UNREADABLE_RUN:
        try:
            for row in broken.execute(query, [number]):
                yield row[1:]
                number, failures = row[0] + 1, 0
        except sqlite3.OperationalError:
            return  # there is no such table any more
        except sqlite3.DatabaseError:
            # sqlite3 reads one row ahead: the last one before a broken page is fetched alone.
            with suppress(sqlite3.DatabaseError):
                row = broken.execute(f"{query} LIMIT 1", [number]).fetchone()
                yield row[1:]
                number, failures = row[0] + 1, 0
                continue
            # Beyond a broken page the tree is whole again: try the next row until it is.
            number, failures = number + 1, failures + 1
        else:
            return


def wipe_set_aside(path: Path, ref: bytes) -> int:
    """Overwrite the wrapped key of the person at *ref* in files set aside by salvage; how many.

    A person's record holds the reference and, right behind it, their wrapped key.
    """
    wiped = 0
    for aside in _set_aside(path):
        content = aside.read_bytes()
        places = [found.start() for found in re.finditer(re.escape(ref), content)]
        if not places:
            continue
        with aside.open("r+b") as file:
            for place in places:
                file.seek(place)
                file.write(bytes(min(len(ref) + WRAPPED_BYTES, len(content) - place)))
            file.flush()
            os.fsync(file.fileno())
        wiped += 1
    return wiped


def has_set_aside(path: Path) -> bool:
    """Whether salvage of the gallery at *path* left files."""
    return bool(_set_aside(path))


def remove_set_aside(path: Path) -> int:
    """Overwrite and delete every file set aside by salvage of the gallery at *path*; how many.

    Cut short, the rest is still there under its name. Raises OSError.
    """
    asides = _set_aside(path)
    for aside in asides:
        size = aside.stat().st_size
        with aside.open("r+b") as file:
            for place in range(0, size, len(_ZEROS)):
                file.write(_ZEROS[: size - place])
            file.flush()
            os.fsync(file.fileno())
        aside.unlink()
    sync_directory(path.parent)
    return len(asides)


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.salvage")


def _set_aside(path: Path) -> list[Path]:
    """The files that salvage of the gallery at *path* left, their logs too."""
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged-{number}")


def _asides(path: Path) -> int:
    """The highest number of a file set aside so far, 0 if there is none."""
    number = 0
    while _aside(path, number + 1).exists():
        number += 1
    return number
