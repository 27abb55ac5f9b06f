"""Commands to devices: kept until the device has answered or their time is over.

Functions on a connection inside a transaction. Whichever worker looks first sends what is due, so
a command goes out again and again, the same each time; the device carries it out once.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, or_, select, update

from agent.base.errors import CityError, MessageError, UsageError
from agent.cityos.db.schema import COMMAND, DEVICE
from agent.protocol.commands import BY_NAME
from agent.protocol.control import (
    LONGEST_TTL_SECONDS,
    MAX_ARGUMENTS_BYTES,
    UNSIGNED,
    Command,
    CommandResult,
)

AGAIN_MS = 30_000
TTL_SECONDS = 86_400
MOST_DEVICES = 200  # commands sent in one go
OPEN = ("waiting", "received")


@dataclass(frozen=True, slots=True)
class Ordered:
    """A command and what has become of it: ``state`` "waiting", then as in ``protocol.control``.

    ``sends`` counts how often it went out; ``reason`` and ``detail`` are the device's.
    """

    id: str
    device: str
    command: str
    arguments: dict[str, Any]
    made_ms: int
    expires_ms: int
    sends: int
    state: str
    reason: str
    detail: dict[str, Any]
    answered_ms: int | None


def new_id() -> str:
    """An id no command had before."""
    return secrets.token_hex(12)


def make(
    device: str, command: str, arguments: Mapping[str, Any], ttl_seconds: int, now_ms: int
) -> Command:
    """A new command. Its counter is the time, which grows without the workers' agreeing on it."""
    return Command(device, new_id(), max(1, now_ms), now_ms, ttl_seconds, command, arguments)


def order(db: Connection, insert: Any, command: Command) -> None:
    """Have *command* sent until its device answers.

    Raises CityError if the device never spoke, UsageError for what no device would take.
    """
    if command.command not in BY_NAME:
        raise UsageError(f"{command.command!r} is no command; there are {', '.join(BY_NAME)}")
    if not 1 <= command.ttl_seconds <= LONGEST_TTL_SECONDS:
        raise UsageError(f"a command lives 1 to {LONGEST_TTL_SECONDS} s")
    try:
        command.spec.arguments.read(dict(command.arguments))
    except MessageError as error:
        raise UsageError(f"{command.command}: {error}") from error
    arguments = json.dumps(dict(command.arguments))
    if len(arguments) > MAX_ARGUMENTS_BYTES:
        raise UsageError(f"arguments are over {MAX_ARGUMENTS_BYTES} bytes long")
    known = select(DEVICE.c.name).where(DEVICE.c.name == command.device)
    if db.execute(known).one_or_none() is None:
        raise CityError(
            f"no device called {command.device!r} ever spoke: see 'kaopass city devices'"
        )
    row = {
        **{"id": command.id, "device": command.device, "counter": command.counter},
        **{"command": command.command, "arguments": arguments, "made_ms": command.issued_ms},
        **{"expires_ms": command.issued_ms + 1_000 * command.ttl_seconds, "sent_ms": None},
        **{"sends": 0, "state": "waiting", "reason": "", "detail": "{}", "answered_ms": None},
    }
    db.execute(insert(COMMAND), row)


def due(db: Connection, now_ms: int, *, signed: bool) -> list[Command]:
    """What is to be sent now, noted as sent; without a signing key only what goes without."""
    still_open = COMMAND.c.state.in_(OPEN)
    over = update(COMMAND).where(still_open, COMMAND.c.expires_ms <= now_ms)
    db.execute(over.values(state="expired", answered_ms=now_ms))
    waiting = (
        select(COMMAND)
        .join(DEVICE, DEVICE.c.name == COMMAND.c.device)
        .where(still_open, DEVICE.c.online)
        .where(or_(COMMAND.c.sent_ms.is_(None), COMMAND.c.sent_ms <= now_ms - AGAIN_MS))
        .order_by(COMMAND.c.made_ms, COMMAND.c.id)
        .limit(MOST_DEVICES)
        .with_for_update(of=COMMAND, skip_locked=True)
    )
    if not signed:
        waiting = waiting.where(COMMAND.c.command.in_(tuple(UNSIGNED)))
    found = []
    for row in db.execute(waiting).all():
        sent = {"sent_ms": now_ms, "sends": row.sends + 1}
        db.execute(update(COMMAND).where(COMMAND.c.id == row.id).values(sent))
        ttl_seconds = (row.expires_ms - row.made_ms) // 1_000
        found.append(
            Command(
                *(row.device, row.id, row.counter, row.made_ms, ttl_seconds, row.command),
                json.loads(row.arguments),
            )
        )
    return found


def answered(db: Connection, device: str, outcome: CommandResult, now_ms: int) -> None:
    """Note the device's answer; what was not ordered, or is settled already, stays as it is."""
    mine = update(COMMAND).where(COMMAND.c.id == outcome.id, COMMAND.c.device == device)
    told: dict[str, Any] = {"state": outcome.state, "reason": outcome.reason}
    if outcome.state not in OPEN:
        detail = json.dumps(dict(outcome.detail), ensure_ascii=False)
        told |= {"detail": detail, "answered_ms": now_ms}
    db.execute(mine.where(COMMAND.c.state.in_(OPEN)).values(told))


def listed(db: Connection, device: str | None, limit: int) -> list[Ordered]:
    """The newest *limit* of *device*, or of all, the newest last."""
    wanted = select(COMMAND).order_by(COMMAND.c.made_ms.desc(), COMMAND.c.id).limit(limit)
    if device is not None:
        wanted = wanted.where(COMMAND.c.device == device)
    return [_ordered(row) for row in reversed(db.execute(wanted).all())]


def found(db: Connection, command_id: str) -> Ordered | None:
    row = db.execute(select(COMMAND).where(COMMAND.c.id == command_id)).one_or_none()
    return None if row is None else _ordered(row)


def prune(db: Connection, before_ms: int) -> None:
    """Forget what was settled before *before_ms*."""
    db.execute(delete(COMMAND).where(COMMAND.c.answered_ms < before_ms))


def _ordered(row: Row[Any]) -> Ordered:
    return Ordered(
        id=row.id,
        device=row.device,
        command=row.command,
        arguments=json.loads(row.arguments),
        made_ms=row.made_ms,
        expires_ms=row.expires_ms,
        sends=row.sends,
        state=row.state,
        reason=row.reason,
        detail=json.loads(row.detail),
        answered_ms=row.answered_ms,
    )
