"""Settings for devices, version by version: what was sent, what is in force, what was refused.

Functions on a connection inside a transaction. A version says which one it follows, and the device
takes it only then (compare and set). What replaces a version that still waits builds on it, so
that nothing set meanwhile is lost.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, or_, select, update

from agent.base.errors import CityError, UsageError
from agent.cityos.db.schema import CONFIG, DEVICE
from agent.protocol.control import MAX_SETTINGS_BYTES, Config, SettingsReport

AGAIN_MS = 60_000
MOST_DEVICES = 200
# "waiting" for the device, "accepted" by it, "refused", "replaced" before it answered, or
# "unknown": reported by a device, but not from this database.
WAITING, ACCEPTED, REFUSED, REPLACED, UNKNOWN = (
    *("waiting", "accepted", "refused", "replaced", "unknown"),
)

Values = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a device's settings; ``problems`` are the device's."""

    device: str
    version: int
    base: int
    settings: dict[str, dict[str, Any]]
    state: str
    problems: tuple[str, ...]
    made_ms: int
    sent_ms: int | None
    answered_ms: int | None


def change(
    db: Connection,
    insert: Any,
    device: str,
    values: Values,
    unset: Collection[tuple[str, str]],
    *,
    base: int | None,
    whole: bool,
    now_ms: int,
) -> Version:
    """The next version for *device*: *values* set, *unset* given back to the device's own file.

    *base*: only if that is in force now. With *whole*, *values* are all there is. Raises CityError
    if the device never spoke, or something else is in force.
    """
    held = select(DEVICE.c.name).where(DEVICE.c.name == device).with_for_update()
    if db.execute(held).one_or_none() is None:
        raise CityError(f"no device called {device!r} ever spoke: see 'kaopass city devices'")
    versions = history(db, device)
    in_force = next((v for v in reversed(versions) if v.state in (ACCEPTED, UNKNOWN)), None)
    waiting = next((v for v in reversed(versions) if v.state == WAITING), None)
    follows = in_force.version if in_force else 0
    if base is not None and base != follows:
        raise CityError(f"{device} has settings version {follows} in force, not {base}: look again")
    start = waiting or in_force
    if not whole and start is not None and start.state == UNKNOWN:
        raise CityError(
            f"{device} has settings version {start.version} in force, which this database does not"
            " know: give all that shall hold, with --whole"
        )
    settings = {} if whole or start is None else {s: dict(v) for s, v in start.settings.items()}
    for section, given in values.items():
        settings.setdefault(section, {}).update(given)
    for section, key in unset:
        if key not in settings.get(section, {}):
            raise UsageError(f"{section}.{key} is not set from here for {device}")
        del settings[section][key]
    settings = {section: given for section, given in settings.items() if given}
    told = json.dumps(settings, ensure_ascii=False)
    if len(json.dumps(settings)) > MAX_SETTINGS_BYTES:
        raise UsageError(f"settings are over {MAX_SETTINGS_BYTES} bytes long")
    if waiting is not None:
        mine = update(CONFIG).where(CONFIG.c.device == device, CONFIG.c.state == WAITING)
        db.execute(mine.values(state=REPLACED))
    number = max([follows, *(v.version for v in versions)]) + 1
    _insert(db, insert, device, number, follows, told, WAITING, now_ms)
    return Version(device, number, follows, settings, WAITING, (), now_ms, None, None)


def due(db: Connection, now_ms: int) -> list[Config]:
    """Versions to be published, retained, noted as sent: once, and again while a device is online
    and does not answer."""
    wanted = (
        select(CONFIG)
        .join(DEVICE, DEVICE.c.name == CONFIG.c.device)
        .where(CONFIG.c.state == WAITING)
        .where(
            or_(
                CONFIG.c.sent_ms.is_(None),
                DEVICE.c.online & (CONFIG.c.sent_ms <= now_ms - AGAIN_MS),
            )
        )
        .order_by(CONFIG.c.made_ms, CONFIG.c.device)
        .limit(MOST_DEVICES)
        .with_for_update(of=CONFIG, skip_locked=True)
    )
    found = []
    for row in db.execute(wanted).all():
        mine = update(CONFIG).where(CONFIG.c.device == row.device)
        db.execute(mine.where(CONFIG.c.version == row.version).values(sent_ms=now_ms))
        found.append(Config(row.device, row.version, row.base, json.loads(row.settings)))
    return found


def reported(db: Connection, insert: Any, device: str, report: SettingsReport, now_ms: int) -> None:
    """Note what *device* says of its settings."""
    version = report.settings_version
    mine = update(CONFIG).where(CONFIG.c.device == device)
    if version:
        db.execute(
            mine.where(
                CONFIG.c.version == version, CONFIG.c.state.notin_((ACCEPTED, UNKNOWN))
            ).values(state=ACCEPTED, problems="[]", answered_ms=now_ms)
        )
        known = select(CONFIG.c.version).where(CONFIG.c.device == device)
        if db.execute(known.where(CONFIG.c.version == version)).one_or_none() is None:
            _insert(db, insert, device, version, 0, "{}", UNKNOWN, now_ms)
    # What was in force before is no longer, whether a newer one followed or it was rolled back.
    others = mine.where(CONFIG.c.version != version, CONFIG.c.state.in_((ACCEPTED, UNKNOWN)))
    db.execute(others.values(state=REPLACED))
    if report.refused_version:
        problems = json.dumps(list(report.problems), ensure_ascii=False)
        refused = mine.where(CONFIG.c.version == report.refused_version)
        db.execute(
            refused.where(CONFIG.c.state != REFUSED).values(
                state=REFUSED, problems=problems, answered_ms=now_ms
            )
        )


def history(db: Connection, device: str) -> list[Version]:
    """All versions of *device*, the newest last."""
    wanted = select(CONFIG).where(CONFIG.c.device == device).order_by(CONFIG.c.version)
    return [_version(row) for row in db.execute(wanted).all()]


def _insert(
    db: Connection,
    insert: Any,
    device: str,
    version: int,
    base: int,
    settings: str,
    state: str,
    now_ms: int,
) -> None:
    row = {
        **{"device": device, "version": version, "base": base, "settings": settings},
        **{"state": state, "problems": "[]", "made_ms": now_ms, "sent_ms": None},
        "answered_ms": None,
    }
    db.execute(insert(CONFIG).on_conflict_do_nothing(), row)


def _version(row: Row[Any]) -> Version:
    return Version(
        device=row.device,
        version=row.version,
        base=row.base,
        settings=json.loads(row.settings),
        state=row.state,
        problems=tuple(json.loads(row.problems)),
        made_ms=row.made_ms,
        sent_ms=row.sent_ms,
        answered_ms=row.answered_ms,
    )
