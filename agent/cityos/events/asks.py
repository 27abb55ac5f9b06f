"""What the city asks devices for again because it misses it.

A sequence with a hole that has made no progress for a while is asked for exactly its missing
numbers, a bounded many at a time, and not again before the device had time to send them. Only a
device that is online, in order, and says that it holds the epoch is asked.
"""

from __future__ import annotations

import json
from itertools import islice

from sqlalchemy import Connection, select, update

from agent.cityos.control import orders
from agent.cityos.db.schema import DEVICE, STREAM
from agent.cityos.events.sequence import Key, missing, of
from agent.protocol.commands import Replay, replay_arguments
from agent.protocol.control import Command

GRACE_MS = 5_000  # what is on its way anyway is not asked for
AGAIN_MS = 30_000
MOST_RANGES = 20  # commands to one device at a time
MOST_NUMBERS = 50_000  # numbers asked of one device at a time
MOST_DEVICES = 200  # asked in one go
TTL_SECONDS = 600  # by then it was asked for again


def due(db: Connection, now_ms: int) -> list[Command]:
    """Replays of everything to be asked for now; noted as asked.

    They are kept nowhere: what they are about is seen to be missing still, or no longer.
    """
    stuck = (
        select(STREAM, DEVICE.c.birth)
        .join(DEVICE, DEVICE.c.name == STREAM.c.device)
        .where(STREAM.c.waiting_ms <= now_ms - GRACE_MS, DEVICE.c.online, DEVICE.c.aside == "")
        .order_by(STREAM.c.device, STREAM.c.epoch)
        .limit(MOST_DEVICES)
        .with_for_update(of=STREAM, skip_locked=True)
    )
    asked: list[Command] = []
    for row in db.execute(stuck).all():
        key = (row.device, row.epoch)
        held = {epoch: last for epoch, _, last in json.loads(row.birth).get("epochs", ())}
        # An epoch that went with its journal can be asked of nobody, until a birth names it again.
        again_ms = now_ms + AGAIN_MS - GRACE_MS if row.epoch in held else None
        db.execute(update(STREAM).where(*of(STREAM, key)).values(waiting_ms=again_ms))
        if again_ms is not None:
            asked += _commands(db, key, row.upto + 1, row.last, now_ms)
    return asked


def _commands(db: Connection, key: Key, first: int, last: int, now_ms: int) -> list[Command]:
    left = MOST_NUMBERS
    commands: list[Command] = []
    for begin, end in islice(missing(db, key, first, last), MOST_RANGES):
        end = min(end, begin + left - 1)  # noqa: PLW2901 - the rest is asked for later
        arguments = replay_arguments(Replay(key[1], begin, end))
        commands.append(orders.make(key[0], "replay", arguments, TTL_SECONDS, now_ms))
        left -= end - begin + 1
        if left <= 0:
            break
    return commands
