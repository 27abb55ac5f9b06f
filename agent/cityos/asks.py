"""What the city asks devices for again: what it misses, and what a person wants.

A sequence with a hole that has made no progress for a while is asked for exactly its missing
numbers, a bounded many at a time, and not again before the device had time to send them. Only a
device that is online, in order, and says that it holds the epoch is asked.
"""

from __future__ import annotations

import json
import secrets
from itertools import islice
from typing import Any

from sqlalchemy import Connection, or_, select, update

from agent.cityos.schema import ASK, DEVICE, STREAM
from agent.cityos.sequence import Key, missing, of
from agent.errors import CityError
from agent.sync.commands import MAX_REPLAY, Replay, Result

GRACE_MS = 5_000  # what is on its way anyway is not asked for
AGAIN_MS = 30_000
MOST_RANGES = 20  # commands to one device at a time
MOST_NUMBERS = 50_000  # numbers asked of one device at a time
MOST_DEVICES = 200  # asked in one go
MOST_SENDS = 20  # of what a person asked for


def due(db: Connection, now_ms: int) -> list[tuple[str, Replay]]:
    """(device, command) of everything to be asked for now; noted as asked."""
    return [*_missing(db, now_ms), *_wanted(db, now_ms)]


def ask(db: Connection, insert: Any, replay: Replay, device: str, now_ms: int) -> None:
    """Have *device* asked for *replay* until it answers. Raises CityError if it is unknown."""
    if db.execute(select(DEVICE.c.name).where(DEVICE.c.name == device)).one_or_none() is None:
        raise CityError(f"no device called {device!r} ever spoke: see 'kaopass city devices'")
    row = {
        **{"id": replay.id, "device": device, "epoch": replay.epoch, "first": replay.first},
        **{"last": replay.last, "refused": replay.refused, "made_ms": now_ms, "sent_ms": None},
        **{"sends": 0, "state": "waiting", "count": None},
    }
    db.execute(insert(ASK), row)


def answered(db: Connection, device: str, result: Result) -> None:
    """Note the *result* of what a person asked for; the city's own asks are not waited for."""
    asked = update(ASK).where(ASK.c.id == result.id, ASK.c.device == device)
    db.execute(asked.where(ASK.c.state == "waiting").values(state=result.state, count=result.count))


def new_id() -> str:
    """An id no command had before."""
    return secrets.token_hex(12)


def _missing(db: Connection, now_ms: int) -> list[tuple[str, Replay]]:
    stuck = (
        select(STREAM, DEVICE.c.birth)
        .join(DEVICE, DEVICE.c.name == STREAM.c.device)
        .where(STREAM.c.waiting_ms <= now_ms - GRACE_MS, DEVICE.c.online, DEVICE.c.aside == "")
        .order_by(STREAM.c.device, STREAM.c.epoch)
        .limit(MOST_DEVICES)
        .with_for_update(of=STREAM, skip_locked=True)
    )
    asked: list[tuple[str, Replay]] = []
    for row in db.execute(stuck).all():
        key = (row.device, row.epoch)
        held = {epoch: last for epoch, _, last in json.loads(row.birth).get("epochs", ())}
        # An epoch that went with its journal can be asked of nobody, until a birth names it again.
        again_ms = now_ms + AGAIN_MS - GRACE_MS if row.epoch in held else None
        db.execute(update(STREAM).where(*of(STREAM, key)).values(waiting_ms=again_ms))
        if again_ms is not None:
            asked += _commands(db, key, row.upto + 1, row.last)
    return asked


def _commands(db: Connection, key: Key, first: int, last: int) -> list[tuple[str, Replay]]:
    left = MOST_NUMBERS
    commands: list[tuple[str, Replay]] = []
    for begin, end in islice(missing(db, key, first, last), MOST_RANGES):
        end = min(end, begin + left - 1)  # noqa: PLW2901 - the rest is asked for later
        commands.append((key[0], Replay(new_id(), key[1], begin, end)))
        left -= end - begin + 1
        if left <= 0:
            break
    return commands


def _wanted(db: Connection, now_ms: int) -> list[tuple[str, Replay]]:
    db.execute(
        update(ASK)
        .where(ASK.c.state == "waiting", ASK.c.sends >= MOST_SENDS)
        .where(ASK.c.sent_ms <= now_ms - AGAIN_MS)
        .values(state="expired")
    )
    waiting = (
        select(ASK)
        .join(DEVICE, DEVICE.c.name == ASK.c.device)
        .where(ASK.c.state == "waiting", ASK.c.sends < MOST_SENDS, DEVICE.c.online)
        .where(or_(ASK.c.sent_ms.is_(None), ASK.c.sent_ms <= now_ms - AGAIN_MS))
        .order_by(ASK.c.made_ms)
        .limit(MOST_DEVICES)
        .with_for_update(of=ASK, skip_locked=True)
    )
    asked = []
    for row in db.execute(waiting).all():
        sent = {"sent_ms": now_ms, "sends": row.sends + 1}
        db.execute(update(ASK).where(ASK.c.id == row.id).values(sent))
        last = min(row.last, row.first + MAX_REPLAY - 1)
        asked.append((row.device, Replay(row.id, row.epoch, row.first, last, row.refused)))
    return asked
