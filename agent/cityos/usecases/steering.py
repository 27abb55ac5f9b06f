"""What devices are told from afar: commands, and settings over those of their own file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from agent.cityos.control import configs, orders
from agent.cityos.control.configs import Version
from agent.cityos.control.orders import Ordered
from agent.cityos.db.database import committing, insert_for, reading
from agent.cityos.usecases.city import CityDatabase
from agent.protocol.commands import NOTED


def send(
    database: CityDatabase,
    device: str,
    command: str,
    arguments: Mapping[str, Any],
    now_ms: int,
    ttl_seconds: int = orders.TTL_SECONDS,
) -> str:
    """Have *device* commanded until it answers, or the time is over; the command's id."""
    made = orders.make(device, command, arguments, ttl_seconds, now_ms)
    with database.act() as note, committing(database.engine, "the command cannot be noted") as db:
        orders.order(db, insert_for(database.engine), made)
        if command in NOTED:
            note("command.ordered", device=device, what=f"{command} {made.id}")
    return made.id


def command(database: CityDatabase, command_id: str) -> Ordered | None:
    """One command and what has become of it."""
    with reading(database.engine) as db:
        return orders.found(db, command_id)


def commands(database: CityDatabase, device: str | None = None, limit: int = 100) -> list[Ordered]:
    """The newest commands, to *device* or to all, the newest last."""
    with reading(database.engine) as db:
        return orders.listed(db, device, limit)


def set_settings(
    database: CityDatabase,
    device: str,
    values: configs.Values,
    now_ms: int,
    *,
    unset: Collection[tuple[str, str]] = (),
    base: int | None = None,
    whole: bool = False,
) -> Version:
    """The next version of *device*'s settings; see ``configs.change``."""
    with database.act() as note, committing(database.engine, "settings cannot be noted") as db:
        made = configs.change(
            *(db, insert_for(database.engine), device, values, unset),
            base=base,
            whole=whole,
            now_ms=now_ms,
        )
        note("settings.set", device=device, what=str(made.version))
    return made


def settings_of(database: CityDatabase, device: str) -> list[Version]:
    """All versions of *device*'s settings, the newest last."""
    with reading(database.engine) as db:
        return configs.history(db, device)
