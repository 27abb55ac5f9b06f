"""What a person or a timer does about the city's events: release, drop, prune, copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from agent.base.errors import CityError
from agent.cityos.control import orders
from agent.cityos.db.database import committing, insert_for, reading
from agent.cityos.db.schema import STREAM
from agent.cityos.events import health, upkeep
from agent.cityos.usecases.city import CityDatabase
from agent.cityos.usecases.steering import send
from agent.protocol.commands import Replay, replay_arguments

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Released:
    """Whether the device was set aside, and how many refused events it is asked for again."""

    was_aside: bool
    events: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """Which journal a device will be asked for, and the command's id."""

    epoch: str
    command: str


def quarantine(database: CityDatabase, device: str | None = None) -> list[dict[str, Any]]:
    """Refused events, and devices set aside (``seq`` is None then), by device."""
    with reading(database.engine) as db:
        return upkeep.quarantine(db, device)


def release(database: CityDatabase, device: str, seq: int | None, now_ms: int) -> Released:
    """Take *device* in again; have its refused events, or only *seq*, offered once more."""
    with database.act() as note, committing(database.engine, "nothing can be released") as db:
        was_aside, count = upkeep.release(db, insert_for(database.engine), device, seq, now_ms)
        note("quarantine.released", device=device, events=count)
    return Released(was_aside, count)


def drop(database: CityDatabase, device: str, seq: int | None, now_ms: int) -> int:
    """Give up refused events of *device*, or only *seq*, for good; how many."""
    with database.act() as note, committing(database.engine, "nothing can be dropped") as db:
        count = upkeep.drop(db, insert_for(database.engine), device, seq, now_ms)
        note("quarantine.dropped", device=device, events=count)
    return count


def replay(
    database: CityDatabase, device: str, epoch: str, first: int, last: int, now_ms: int
) -> Replayed:
    """Have *device* send events again; *epoch* is how the journal's name begins, "" the newest."""
    with reading(database.engine) as db:
        found = next((row for row in health.devices(db) if row.name == device), None)
    wanted = epoch or (found.epoch if found else "")
    known = found.epochs if found else {}
    matching = [name for name in known if wanted and name.startswith(wanted)]
    if len(matching) != 1:
        raise CityError(
            f"{device} has {len(matching)} epochs that begin with {wanted!r}: "
            "see 'kaopass city devices --json'"
        )
    arguments = replay_arguments(Replay(matching[0], first, last))
    return Replayed(matching[0], send(database, device, "replay", arguments, now_ms))


def prune(database: CityDatabase, keep_days: float, now_ms: int) -> int:
    """Delete events received more than *keep_days* ago, a sequence at a time; how many.

    Commands settled by then go too.
    """
    before_ms, gone = now_ms - round(keep_days * _DAY_MS), 0
    with reading(database.engine) as db:
        wanted = select(STREAM.c.device, STREAM.c.epoch).order_by(STREAM.c.device, STREAM.c.epoch)
        streams = [(row.device, row.epoch) for row in db.execute(wanted).all()]
    with database.act() as note:
        note("events.pruned", keep_days=f"{keep_days:g}")
        with committing(database.engine, "commands cannot be pruned") as db:
            orders.prune(db, before_ms)
        for stream in streams:
            with committing(database.engine, "events cannot be pruned") as db:
                gone += upkeep.prune(db, stream, before_ms)
    return gone


def backup(database: CityDatabase, target: str) -> None:
    """Copy a SQLite database to the new file *target* while it is worked on."""
    with database.act() as note:
        upkeep.backup(database.engine, target, lambda: note("database.copied"))
