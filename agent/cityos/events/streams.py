"""The row of each sequence: held while one works on it, and moved on, many in one statement.

Functions on a connection inside a transaction that holds the devices' rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, exists, func, select, tuple_, update

from agent.cityos.db.schema import EVENT, GAP, REJECTED, STREAM
from agent.cityos.events.sequence import Key

_OF_STREAM = {
    table: (table.c.device == STREAM.c.device, table.c.epoch == STREAM.c.epoch)
    for table in (EVENT, GAP, REJECTED)
}
# What else there is to look at, so that a sequence in good order costs no statement of its own.
# The greatest number by max(): both databases find it by one step into the index. EXISTS with a
# comparison would make PostgreSQL read the table from its beginning.
_WANTED = (
    select(
        STREAM,
        select(func.max(EVENT.c.seq)).where(*_OF_STREAM[EVENT]).scalar_subquery().label("newest"),
        exists().where(*_OF_STREAM[GAP]).label("has_gaps"),
        exists().where(*_OF_STREAM[REJECTED]).label("has_refused"),
    )
    .where(tuple_(STREAM.c.device, STREAM.c.epoch).in_(bindparam("keys", expanding=True)))
    .with_for_update(of=STREAM)
)
_MOVE = (
    update(STREAM)
    .where(STREAM.c.device == bindparam("of_device"), STREAM.c.epoch == bindparam("of_epoch"))
    .values({name: bindparam(f"new_{name}") for name in ("upto", "last", "waiting_ms")})
)


def hold(db: Connection, insert: Any, keys: Collection[Key]) -> dict[Key, Row[Any]]:
    """The sequences' rows, made where there is none, held until the transaction ends.

    Beside the table's columns each has ``newest`` (the greatest number that is there as an event,
    or None), ``has_gaps`` and ``has_refused``.
    """
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    found = _read(db, wanted)
    fresh = [
        {
            **{"device": device, "epoch": epoch, "upto": 0, "last": 0, "floor": 0},
            **{"waiting_ms": None, "born": False},
        }
        for device, epoch in wanted
        if (device, epoch) not in found
    ]
    if fresh:
        db.execute(insert(STREAM).on_conflict_do_nothing(), fresh)
        found = _read(db, wanted)
    return found


def move(
    db: Connection,
    held: Mapping[Key, Row[Any]],
    ends: Mapping[Key, tuple[int, int]],
    now_ms: int,
) -> None:
    """Note where each sequence stands: (upto, last). While one moves on, nothing is asked for."""
    moved = []
    for key, (upto, last) in ends.items():
        stream = held[key]
        waiting_ms = stream.waiting_ms
        if upto >= last:
            waiting_ms = None
        elif upto != stream.upto or waiting_ms is None:
            waiting_ms = now_ms
        if (upto, last, waiting_ms) != (stream.upto, stream.last, stream.waiting_ms):
            moved.append(
                {
                    **{"of_device": key[0], "of_epoch": key[1]},
                    **{"new_upto": upto, "new_last": last, "new_waiting_ms": waiting_ms},
                }
            )
    if moved:
        db.execute(_MOVE, moved)


def _read(db: Connection, keys: list[Key]) -> dict[Key, Row[Any]]:
    return {(row.device, row.epoch): row for row in db.execute(_WANTED, {"keys": keys}).all()}
