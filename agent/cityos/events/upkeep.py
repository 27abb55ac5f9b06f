"""What a person does with the city's database: release, drop, delete after its time, back up."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, update

from agent.base.errors import CityError, UsageError
from agent.base.sqlite import copy_whole
from agent.cityos.control import orders
from agent.cityos.db.schema import DEVICE, EVENT, GAP, REJECTED, STREAM
from agent.cityos.events import enrolments
from agent.cityos.events.sequence import Key, of, spans
from agent.protocol.commands import Replay, replay_arguments


def quarantine(db: Connection, device: str | None) -> list[dict[str, Any]]:
    """Devices set aside (``seq`` None, ``code`` the reason) and refused events, by device."""
    aside = select(DEVICE).where(DEVICE.c.aside != "").order_by(DEVICE.c.name)
    refused = select(REJECTED).order_by(REJECTED.c.device, REJECTED.c.epoch, REJECTED.c.seq)
    if device is not None:
        aside = aside.where(DEVICE.c.name == device)
        refused = refused.where(REJECTED.c.device == device)
    found = [
        {
            **{"device": row.name, "epoch": None, "seq": None, "code": row.aside},
            "received_ms": row.last_seen_ms,
        }
        for row in db.execute(aside)
    ]
    return [*found, *(dict(row._mapping) for row in db.execute(refused))]


def release(
    db: Connection, insert: Any, device: str, seq: int | None, now_ms: int
) -> tuple[bool, int]:
    """Take *device* in again; have its refused events, or only *seq*, offered again.

    They stay refused until the device has sent them and they are good now.
    """
    held = select(DEVICE.c.aside).where(DEVICE.c.name == device).with_for_update()
    row = db.execute(held).one_or_none()
    if row is None:
        raise CityError(f"no device called {device!r} ever spoke: see 'kaopass city devices'")
    if row.aside and seq is None:
        fresh = update(DEVICE).where(DEVICE.c.name == device)
        db.execute(fresh.values(aside="", returns=0))
    by_epoch = _refused(db, device, seq)
    for epoch, numbers in by_epoch.items():
        for first, last in spans(numbers):
            wanted = replay_arguments(Replay(epoch, first, last, refused=True))
            orders.order(
                db, insert, orders.make(device, "replay", wanted, orders.TTL_SECONDS, now_ms)
            )
    return bool(row.aside) and seq is None, sum(map(len, by_epoch.values()))


def drop(db: Connection, insert: Any, device: str, seq: int | None, now_ms: int) -> int:
    """Turn refused events, or only *seq*, into known gaps; how many."""
    by_epoch = _refused(db, device, seq)
    for epoch, numbers in by_epoch.items():
        key = (device, epoch)
        db.execute(delete(REJECTED).where(*of(REJECTED, key), REJECTED.c.seq.in_(numbers)))
        rows = [
            {
                **{"device": device, "epoch": epoch, "first": first, "last": last},
                **{"noted_ms": now_ms, "reason": "dropped"},
            }
            for first, last in spans(numbers)
        ]
        db.execute(insert(GAP).on_conflict_do_nothing(), rows)
    return sum(map(len, by_epoch.values()))


def prune(db: Connection, key: Key, before_ms: int) -> int:
    """Delete the beginning of *key*'s sequence that was received before *before_ms*; how many.

    Only what is complete goes, and where it ended is kept, so that a late repeat is no news.
    """
    held = select(STREAM).where(*of(STREAM, key)).with_for_update()
    stream = db.execute(held).one_or_none()
    if stream is None:
        return 0
    kept = select(func.min(EVENT.c.seq)).where(*of(EVENT, key), EVENT.c.received_ms >= before_ms)
    first_kept = db.execute(kept).scalar()
    floor = stream.upto if first_kept is None else min(stream.upto, first_kept - 1)
    if floor <= stream.floor:
        return 0
    db.execute(update(STREAM).where(*of(STREAM, key)).values(floor=floor))
    enrolments.prune(db, key, floor)
    old = delete(EVENT).where(*of(EVENT, key), EVENT.c.seq <= floor)
    return int(db.execute(old).rowcount)


def backup(engine: Engine, target: str, note: Callable[[], object] = lambda: None) -> None:
    """SQLite's online copy: whole as of one moment, while others write. Raises CityError.

    *note* is called when nothing speaks against it, before anything is written.
    """
    if engine.dialect.name != "sqlite":
        raise UsageError(
            "a PostgreSQL database is backed up by its own tool: pg_dump --format=custom"
            " --file=FILE ADDRESS, and restored by pg_restore --clean --dbname=ADDRESS FILE"
        )
    path = Path(target)
    if path.exists():
        raise UsageError(f"{target} exists already: give a new name")
    note()
    try:
        with engine.connect() as db:
            source: Any = db.connection.dbapi_connection
            db.rollback()  # the copy is a reading of its own
            copy_whole(source, path)
    except (OSError, sqlite3.Error) as error:
        raise CityError(f"{target}: the backup failed: {error}") from error


def _refused(db: Connection, device: str, seq: int | None) -> dict[str, list[int]]:
    wanted = select(REJECTED.c.epoch, REJECTED.c.seq).where(REJECTED.c.device == device)
    if seq is not None:
        wanted = wanted.where(REJECTED.c.seq == seq)
    by_epoch: dict[str, list[int]] = {}
    for row in db.execute(wanted.order_by(REJECTED.c.epoch, REJECTED.c.seq)):
        by_epoch.setdefault(row.epoch, []).append(row.seq)
    return by_epoch
