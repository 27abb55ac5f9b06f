"""Which device has which version, as they report it, and what that says about an erasure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, select, update

from agent.cityos.releases import latest
from agent.cityos.schema import ERASURE, HELD, MEMBER, RELEASE
from agent.wire.gallery import Hello, Position

_NOTED_MS = 600_000  # that a device still has the same is written down only so often


@dataclass(frozen=True, slots=True)
class Holding:
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


def holdings(db: Connection, gallery: str) -> dict[str, Holding]:
    """What every device told last of *gallery*, by device."""
    rows = db.execute(select(HELD).where(HELD.c.gallery == gallery).order_by(HELD.c.last_ms))
    return {
        row.device: Holding(
            row.device, (row.epoch, row.version), row.proven, row.first_ms, row.last_ms
        )
        for row in rows
    }


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
