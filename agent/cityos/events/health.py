"""Every device at a glance: whether it speaks, how complete its events are, and what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, func, select

from agent.cityos.db.schema import DEVICE, EVENT, GAP, REJECTED, STREAM
from agent.protocol.events.kinds import BY_WORD
from agent.protocol.messages import Birth


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device at a glance. ``epochs`` maps each epoch to where it is complete up to; ``epoch`` is
    the one its last birth named.

    ``events``, ``rejected`` and ``gaps`` count rows; ``lag`` counts numbers beyond the complete
    part that the device is known to have handed out. ``alarms`` say in words what a person should
    look at, ``aside`` why nothing is taken from the device (empty when it is). ``unread`` counts
    events of kinds that this version does not know, by kind.
    """

    name: str
    online: bool
    connection: int
    software: str
    last_seen_ms: int
    epochs: dict[str, int]
    events: int
    rejected: int
    gaps: int
    epoch: str = ""
    lag: int = 0
    aside: str = ""
    alarms: tuple[str, ...] = ()
    unread: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pulse:
    """The part of a device's health that is known without counting its events."""

    name: str
    online: bool
    lag: int
    last_seen_ms: int
    aside: bool


def pulses(db: Connection) -> list[Pulse]:
    """Every device that ever spoke, by name; quick however many events there are."""
    lag = func.coalesce(func.sum(STREAM.c.last - STREAM.c.upto), 0)
    wanted = (
        select(DEVICE.c.name, DEVICE.c.online, lag, DEVICE.c.last_seen_ms, DEVICE.c.aside != "")
        .outerjoin(STREAM, STREAM.c.device == DEVICE.c.name)
        .group_by(DEVICE.c.name, DEVICE.c.online, DEVICE.c.last_seen_ms, DEVICE.c.aside)
        .order_by(DEVICE.c.name)
    )
    return [
        Pulse(name, bool(online), int(behind), seen_ms, bool(aside))
        for name, online, behind, seen_ms, aside in map(tuple, db.execute(wanted))
    ]


def devices(db: Connection) -> list[DeviceRow]:
    """Every device that ever spoke, by name."""
    rejected, gaps = (_count_by_device(db, table) for table in (REJECTED, GAP))
    kinds = _kinds_by_device(db)
    streams: dict[str, list[Any]] = {}
    for row in db.execute(select(STREAM).order_by(STREAM.c.epoch)):
        streams.setdefault(row.device, []).append(row)
    found = []
    for row in db.execute(select(DEVICE).order_by(DEVICE.c.name)):
        birth = json.loads(row.birth)
        held = {epoch for epoch, _, _ in birth.get("epochs", ())}
        alarms = [f"set aside: {row.aside}"] if row.aside else []
        if rejected.get(row.name):
            alarms.append(f"{rejected[row.name]} events refused: see 'kaopass city quarantine'")
        unread = {
            kind: count for kind, count in kinds.get(row.name, {}).items() if kind not in BY_WORD
        }
        alarms += [
            f"{count} events of the kind {kind}, which this version cannot read, are kept as they"
            " came: a newer one reads them"
            for kind, count in unread.items()
        ]
        alarms += [
            f"{stream.last - stream.upto} events of epoch {stream.epoch[:8]} never came, and the "
            "device no longer has that journal"
            for stream in streams.get(row.name, ())
            if held and stream.upto < stream.last and stream.epoch not in held
        ]
        found.append(
            DeviceRow(
                name=row.name,
                online=row.online,
                connection=row.connection,
                software=birth.get("software", ""),
                last_seen_ms=row.last_seen_ms,
                epochs={stream.epoch: stream.upto for stream in streams.get(row.name, ())},
                events=sum(kinds.get(row.name, {}).values()),
                rejected=rejected.get(row.name, 0),
                gaps=gaps.get(row.name, 0),
                epoch=birth.get("epoch", ""),
                lag=sum(stream.last - stream.upto for stream in streams.get(row.name, ())),
                aside=row.aside,
                alarms=tuple(alarms),
                unread=unread,
            )
        )
    return found


def birth_record(birth: Birth) -> dict[str, Any]:
    """What is kept of a birth, as JSON."""
    return {
        "epoch": birth.epoch,
        "epochs": [[bounds.epoch, bounds.first, bounds.last] for bounds in birth.epochs],
        "software": birth.software,
        "gallery": {"version": birth.gallery_version, "root": birth.gallery_root},
        "settings_version": birth.settings_version,
    }


def _count_by_device(db: Connection, table: Table) -> dict[str, int]:
    rows = db.execute(select(table.c.device, func.count()).group_by(table.c.device))
    return {str(device): int(count) for device, count in map(tuple, rows)}


def _kinds_by_device(db: Connection) -> dict[str, dict[str, int]]:
    wanted = select(EVENT.c.device, EVENT.c.kind, func.count()).group_by(
        EVENT.c.device, EVENT.c.kind
    )
    found: dict[str, dict[str, int]] = {}
    for device, kind, count in map(tuple, db.execute(wanted.order_by(EVENT.c.kind))):
        found.setdefault(device, {})[kind] = count
    return found
