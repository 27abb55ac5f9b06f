"""A copy of the town's keys for the day the disk dies, from which the erased can be erased, too.

The copy is brought up to date in place, never made beside an older one: a key that was destroyed
here is overwritten there. It is wrapped by the town's master key, which it does not hold; content
keys are not in it, because new ones can be made.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.base.errors import CityError, UsageError
from agent.base.sqlite import connect, copy_whole, find_damage, open_file, transaction
from agent.cityos.keys.keyfile import FILE, KEYS, MASTER
from agent.cityos.keys.townkeys import TownKeys

_TABLES = (
    *("resident", "withdrawal", "gone", "erased", "position", "drafted", "enrolment"),
    "proof",
)


def backup(
    keys: TownKeys, target: Path, now_ms: int, note: Callable[[], object] = lambda: None
) -> int:
    """Make or bring up to date the copy at *target*; how many destroyed keys went from it.

    *note* is called when nothing speaks against it, before anything is written. Raises UsageError
    if *target* is something else, or the copy of another town.
    """
    target = target.absolute()
    begun = False
    try:
        there = target.exists()
        if there and not keys.proves(target):
            raise UsageError(
                f"{target} is no copy of these keys: give another name, or move it away"
            )
        note()
        begun = True
        if not there:
            os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(open_file(target, KEYS)) as db:
            db.execute("ATTACH DATABASE ? AS own", (str(keys.path),))
            return _bring_up_to_date(db)
    except (OSError, sqlite3.Error) as error:
        raise CityError(f"{target}: the keys cannot be copied: {error}") from error
    finally:
        if begun and target.exists():
            keys.note_copy(target, now_ms)


def restore(copy: Path, directory: Path, note: Callable[[], object] = lambda: None) -> None:
    """Put the keys of *copy* where there are none; the master key is to be there already.

    *note* is called when nothing speaks against it, before anything is written. Raises UsageError
    if there are keys, CityError if it cannot be done.
    """
    target = directory / FILE
    if target.exists():
        raise UsageError(f"{target} exists: keys are never put over others; move it away first")
    if not (directory / MASTER).exists() and "CREDENTIALS_DIRECTORY" not in os.environ:
        raise UsageError(f"put the town's master key, {MASTER!r}, into {directory} first")
    note()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(connect(copy, KEYS, read_only=True)) as source:
            if damage := find_damage(source, copy):
                raise CityError(f"{copy}: this copy is damaged ({damage}): take an older one")
            copy_whole(source, target)
    except (OSError, sqlite3.Error) as error:
        raise CityError(f"{copy}: the keys cannot be restored: {error}") from error


def _bring_up_to_date(db: sqlite3.Connection) -> int:
    gone = 0
    with transaction(db):
        for table in _TABLES:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            names = ", ".join(columns)
            pick = f"SELECT {names} FROM"
            before = db.execute(f"{pick} main.{table} EXCEPT {pick} own.{table}")
            for row in before.fetchall():
                where = " AND ".join(f"{column} IS ?" for column in columns)
                db.execute(f"DELETE FROM main.{table} WHERE {where}", row)  # noqa: S608 - own words
                gone += table == "resident"
            news = f"{pick} own.{table} EXCEPT {pick} main.{table}"
            db.execute(f"INSERT INTO main.{table} ({names}) {news}")
    return gone
