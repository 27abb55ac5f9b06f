"""Which device has which version, as they report it, and what that says about an erasure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, select, update

from agent.cityos.db.schema import ERASURE, HELD, MEMBER, RELEASE
from agent.cityos.galleries.versions import latest
from agent.protocol.galleries.messages import Hello, Position

_NOTED_MS = 600_000  # that a device still has the same is written down only so often


@dataclass(frozen=True, slots=True)
class HeldVersion:
    """What a device told last of a gallery; ``proven`` if its root was that of the signed head."""

    device: str
    position: Position
    proven: bool
    since_ms: int
    heard_ms: int


@dataclass(frozen=True, slots=True)
class Applied:
    """Since when a device has a gallery without somebody; None while it has not said so."""

    gallery: str
    device: str
    at_ms: int | None


def note(db: Connection, insert: Any, hello: Hello, now_ms: int) -> bool:
    """Write down what a device says it has; whether that is news."""
    epoch, version = hello.have
    mine = and_(HELD.c.device == hello.device, HELD.c.gallery == hello.gallery)
    here = and_(mine, HELD.c.epoch == epoch, HELD.c.version == version)
    signed = select(RELEASE.c.root).where(
        RELEASE.c.gallery == hello.gallery,
        RELEASE.c.epoch == epoch,
        RELEASE.c.version == version,
        RELEASE.c.head.is_not(None),
    )
    proven = db.execute(signed).scalar_one_or_none() == hello.root
    row = db.execute(select(HELD).where(here)).one_or_none()
    if row is not None and row.proven == proven:
        newest = select(HELD.c.epoch, HELD.c.version).where(mine).order_by(HELD.c.last_ms.desc())
        last = db.execute(newest.limit(1)).one()
        if (last.epoch, last.version) != (epoch, version) or now_ms > row.last_ms + _NOTED_MS:
            db.execute(update(HELD).where(here).values(last_ms=now_ms))
        return False
    # What is not true of any version is kept once: a device may claim anything.
    db.execute(delete(HELD).where(mine, HELD.c.proven.is_(False)))
    values = {
        **{"device": hello.device, "gallery": hello.gallery, "epoch": epoch, "version": version},
        **{"proven": proven, "first_ms": now_ms, "last_ms": now_ms},
    }
    changed = {"proven": proven, "last_ms": now_ms}
    upsert = insert(HELD).values(values)
    db.execute(upsert.on_conflict_do_update(index_elements=HELD.primary_key.columns, set_=changed))
    return True


def holdings(db: Connection, gallery: str) -> dict[str, HeldVersion]:
    """What every device told last of *gallery*, by device."""
    rows = db.execute(select(HELD).where(HELD.c.gallery == gallery).order_by(HELD.c.last_ms))
    return {
        row.device: HeldVersion(
            row.device, (row.epoch, row.version), row.proven, row.first_ms, row.last_ms
        )
        for row in rows
    }


def prune(db: Connection, gallery: str) -> None:
    """Forget versions that devices had and nobody asks for: looking at what they have stays quick.

    Of each device stay the last and the highest that it told, and the first proven since each
    erasure, which its receipt shows.
    """
    erased = [
        (row.epoch, row.version)
        for row in db.execute(
            select(ERASURE.c.epoch, ERASURE.c.version)
            .where(ERASURE.c.gallery == gallery, ERASURE.c.epoch.is_not(None))
            .distinct()
        )
    ]
    erased.sort()
    by_device: dict[str, list[Row[Any]]] = {}
    highest_first = (HELD.c.epoch.desc(), HELD.c.version.desc())
    for row in db.execute(select(HELD).where(HELD.c.gallery == gallery).order_by(*highest_first)):
        by_device.setdefault(row.device, []).append(row)
    for rows in by_device.values():
        kept = {rows[0], max(rows, key=lambda row: int(row.last_ms)), *_first_since(rows, erased)}
        for row in rows:
            if row not in kept:
                one = (HELD.c.device == row.device, HELD.c.gallery == gallery)
                same = (HELD.c.epoch == row.epoch, HELD.c.version == row.version)
                unheard = HELD.c.last_ms == row.last_ms  # or it has gone back to that just now
                db.execute(delete(HELD).where(*one, *same, unheard))


def _first_since(rows: Sequence[Row[Any]], erased: Sequence[Position]) -> list[Row[Any]]:
    """The first proven of *rows*, which come highest first, at or above each of *erased*."""
    first, found = None, []
    for at, row in enumerate(rows):
        if row.proven and (first is None or row.first_ms <= first.first_ms):
            first = row
        below = rows[at + 1] if at + 1 < len(rows) else None
        since = bisect_right(erased, (below.epoch, below.version)) if below is not None else 0
        if first is not None and bisect_right(erased, (row.epoch, row.version)) > since:
            found.append(first)
    return found


def holders(db: Connection, gallery: str, ref: bytes) -> list[str] | None:
    """Devices that have the resident *ref* in *gallery*; None if the gallery has them not."""
    member = select(MEMBER.c.version).where(
        MEMBER.c.gallery == gallery, MEMBER.c.ref == ref, MEMBER.c.digest.is_not(None)
    )
    version = db.execute(member).scalar_one_or_none()
    release = latest(db, gallery)
    if version is None or release is None:
        return None
    return sorted(
        held.device
        for held in holdings(db, gallery).values()
        if held.proven and held.position >= (release.epoch, version)
    )


def everybody_has(db: Connection, gallery: str, devices: Sequence[str]) -> int:
    """The version in the present epoch that each of *devices* has, or a later one; 0 for none."""
    release = latest(db, gallery)
    if release is None or not devices:
        return 0
    found = holdings(db, gallery)
    least = release.version
    for device in devices:
        held = found.get(device)
        if held is None or not held.proven or held.position[0] != release.epoch:
            return 0
        least = min(least, held.position[1])
    return int(least)


def erasure(
    db: Connection, receipt: str, devices: Mapping[str, Sequence[str]]
) -> tuple[int, dict[str, Position | None], list[Applied]] | None:
    """(when, since which version of each gallery, what each device applied); None if unknown.

    *devices* are those that serve each gallery; others that ever had it are listed, too.
    """
    rows = db.execute(select(ERASURE).where(ERASURE.c.receipt == receipt)).all()
    if not rows:
        return None
    since: dict[str, Position | None] = {}
    applied: list[Applied] = []
    for row in rows:
        since[row.gallery] = None if row.epoch is None else (row.epoch, row.version)
        told: dict[str, int | None] = dict.fromkeys(devices.get(row.gallery, ()))
        for held in db.execute(select(HELD).where(HELD.c.gallery == row.gallery)).all():
            told.setdefault(held.device, None)
            position = since[row.gallery]
            if held.proven and position is not None and (held.epoch, held.version) >= position:
                before = told[held.device]
                told[held.device] = min(held.first_ms, before or held.first_ms)
        applied += [Applied(row.gallery, device, told[device]) for device in sorted(told)]
    return rows[0].at_ms, since, applied
