"""What arrived together, committed: events once, refusals and losses noted, and the acks.

Functions on a connection inside a transaction that holds the devices' rows. However many devices
sent something, what is in order costs a handful of statements for all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Row,
    String,
    TextClause,
    delete,
    select,
    text,
    update,
)

from agent.base.events import StoredEvent
from agent.base.values import Ack, Nack
from agent.cityos.db.schema import CLOCK, EVENT, REJECTED, UNKNOWN_CLOCKS
from agent.cityos.events import enrolments, streams
from agent.cityos.events.rows import MORE, added, row_of
from agent.cityos.events.sequence import Key, close_gaps, note_gaps, of, run_on, spans
from agent.protocol.items import Lost
from agent.protocol.messages import MAX_RANGES, Offset

# A device has at most 16 batches of 100 in flight (settings), so an ack that was lost cannot have
# refused anything further back than that. Repeating it makes a lost nack harmless.
_RECENT = 2_000
CONFLICT = "conflict"


def _unnested(columns: Sequence[Column[Any]]) -> TextClause:
    """PostgreSQL takes all rows as one array a column: one round trip, where a row each costs one
    each."""
    return text(
        f"INSERT INTO event ({', '.join(column.name for column in columns)}) SELECT * FROM unnest("  # noqa: S608 - our own
        + ", ".join(
            f"CAST(:{column.name} AS {'text' if isinstance(column.type, String) else 'bigint'}[])"
            for column in columns
        )
        + ") ON CONFLICT DO NOTHING"
    )


# By how many columns a row has.
_INSERT_COLUMNS = {
    len(columns): _unnested(columns)
    for columns in (list(EVENT.c), [column for column in EVENT.c if column.name not in MORE])
}


@dataclass(slots=True)
class Arrival:
    """What came in of one (device, epoch), to be committed together."""

    events: dict[int, StoredEvent] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)


def commit(
    db: Connection,
    insert: Any,
    arrivals: Mapping[Key, Arrival],
    closed: Iterable[str],
    now_ms: int,
) -> tuple[dict[Key, Ack], set[str]]:
    """(what the city now has, devices that contradict themselves); nothing is taken of *closed*.

    Nor is anything taken of a device that sends another event under a number that is taken.
    """
    held = streams.hold(db, insert, arrivals)
    there = {key: _compare(db, key, came, held[key]) for key, came in arrivals.items()}
    conflicting = {key[0] for key, (other, _) in there.items() if other}
    refused = conflicting.union(closed)
    taken = {key: came for key, came in arrivals.items() if key[0] not in refused}
    _insert_events(db, insert, taken, held, {key: there[key][1] for key in taken}, now_ms)
    acks = {key: _refuse_all(key, there[key][0], now_ms) for key in arrivals.keys() - taken.keys()}
    ends = {}
    for key, came in taken.items():
        acks[key], last = _arrive(db, insert, key, came, held[key], now_ms)
        ends[key] = acks[key].upto, last
    streams.move(db, held, ends, now_ms)
    return acks, conflicting


def _compare(
    db: Connection, key: Key, arrival: Arrival, stream: Row[Any]
) -> tuple[set[int], dict[int, dict[str, Any]]]:
    """(numbers there with other content, those there as they came: with what these add)."""
    suspects = [seq for seq in arrival.events if seq <= (stream.newest or 0)]
    other: set[int] = set()
    same: dict[int, dict[str, Any]] = {}
    # A statement for each run of numbers, as a rule one: by a list of numbers PostgreSQL goes
    # through all that the device ever sent.
    for first, last in spans(suspects):
        there = select(EVENT).where(*of(EVENT, key), EVENT.c.seq.between(first, last))
        for row in db.execute(there).all():
            found = added(row, arrival.events[row.seq])
            if found is None:
                other.add(row.seq)
            else:
                same[row.seq] = found
    return other, same


def _refuse_all(key: Key, other: set[int], now_ms: int) -> Ack:
    """The answer to a device that is set aside: nothing is taken, and what contradicts is named."""
    return Ack(key[1], 0, (), tuple(Nack(seq, CONFLICT) for seq in sorted(other)), now_ms)


def _arrive(
    db: Connection, insert: Any, key: Key, arrival: Arrival, stream: Row[Any], now_ms: int
) -> tuple[Ack, int]:
    """What the city now has of one sequence, its events being there, and its greatest number."""
    last = max(stream.last, *arrival.events, *arrival.rejected, 0)
    lost = [each for each in arrival.lost if each.last <= last]
    rejected = arrival.rejected | {
        each.first: "bad_lost" for each in arrival.lost if each.last > last
    }
    lowest = min([*arrival.events, *rejected, *(each.first for each in lost)])
    refused: dict[int, str] = {}
    if stream.has_refused:
        refused = _refused(db, key, min(lowest, stream.upto) - _RECENT)
    # What was refused once and is good now (a newer city side) is no longer refused.
    healed = refused.keys() & arrival.events.keys()
    if healed:
        db.execute(delete(REJECTED).where(*of(REJECTED, key), REJECTED.c.seq.in_(healed)))
    fresh = _reject(db, insert, key, rejected, arrival.events, now_ms)
    refused = {seq: code for seq, code in refused.items() if seq not in healed} | fresh
    if stream.has_gaps and arrival.events:
        close_gaps(db, insert, key, arrival.events)
    for each in lost:
        note_gaps(db, insert, key, max(each.first, stream.floor + 1), each.last, each.code, now_ms)
    upto = stream.upto
    new = arrival.events.keys() | fresh.keys()
    while upto + 1 in new:
        upto += 1
    # Before this arrival there was nothing beyond ``upto``, as a rule.
    more = stream.has_gaps or stream.has_refused or (stream.newest or 0) > stream.upto
    if lost or (more and stream.upto < upto < last):
        upto = run_on(db, key, upto)
    have = [*spans(seq for seq in arrival.events if seq > upto)]
    have += [(each.first, each.last) for each in lost if each.last > upto]
    ack = Ack(
        epoch=key[1],
        upto=upto,
        have=tuple(sorted(have)),
        nack=tuple(Nack(seq, refused[seq]) for seq in sorted(refused)[-MAX_RANGES:]),
        server_time_ms=now_ms,
    )
    return ack, last


def correct(db: Connection, insert: Any, device: str, clocks: tuple[Offset, ...]) -> None:
    """Add the time to this device's events of boots whose clock was found later, each once."""
    for clock in clocks:
        row = {"device": device, "boot": clock.boot, "offset_ms": clock.offset_ms}
        db.execute(insert(CLOCK).on_conflict_do_nothing(), row)
        _correct_boot(db, device, clock.boot, clock.offset_ms)


def _correct_boot(db: Connection, device: str, boot: str, offset_ms: int) -> None:
    of_unknown_time = (
        EVENT.c.device == device,
        EVENT.c.boot == boot,
        EVENT.c.clock.in_(UNKNOWN_CLOCKS),
        EVENT.c.corrected_ms.is_(None),
    )
    reckoned = update(EVENT).values(corrected_ms=EVENT.c.mono_ms + offset_ms)
    db.execute(reckoned.where(*of_unknown_time))


def _insert_events(
    db: Connection,
    insert: Any,
    taken: Mapping[Key, Arrival],
    held: Mapping[Key, Row[Any]],
    same: Mapping[Key, dict[int, dict[str, Any]]],
    now_ms: int,
) -> None:
    """Everything that is new, in a statement or two; what was there may learn what it lacked."""
    rows = []
    boots = set()
    for key, arrival in taken.items():
        fresh = [
            stored
            for seq, stored in arrival.events.items()
            if seq > held[key].floor and seq not in same[key]
        ]
        enrolments.note(db, insert, key[0], fresh, now_ms)
        for stored in fresh:
            rows.append(row_of(key[0], stored, now_ms))
            moment = stored.event.moment
            if stored.corrected_ms is None and moment.clock in UNKNOWN_CLOCKS:
                boots.add((key[0], moment.boot))
    for width, insert_columns in _INSERT_COLUMNS.items():
        alike = [row for row in rows if len(row) == width]
        if alike and db.dialect.name == "postgresql":
            values = {name: [row[name] for row in alike] for name in alike[0]}
            db.execute(insert_columns, values)
        elif alike:
            db.execute(insert(EVENT).on_conflict_do_nothing(), alike)
    for key, repeats in same.items():
        for seq, values in repeats.items():
            if values:
                late = update(EVENT).where(*of(EVENT, key), EVENT.c.seq == seq)
                db.execute(late.values(values))
    # Sent before the device knew the time, come after it had said so.
    for device, boot in sorted(boots):
        known = select(CLOCK.c.offset_ms).where(CLOCK.c.device == device, CLOCK.c.boot == boot)
        offset_ms = db.execute(known).scalar()
        if offset_ms is not None:
            _correct_boot(db, device, boot, offset_ms)


def _reject(
    db: Connection,
    insert: Any,
    key: Key,
    rejected: dict[int, str],
    events: dict[int, StoredEvent],
    now_ms: int,
) -> dict[int, str]:
    """Record what is refused, except where a good event of that number is already there."""
    fresh = {seq: code for seq, code in rejected.items() if seq not in events}
    if fresh:
        good = select(EVENT.c.seq).where(*of(EVENT, key), EVENT.c.seq.in_(fresh))
        for (seq,) in db.execute(good).all():
            del fresh[seq]
    if fresh:
        rows = [
            {"device": key[0], "epoch": key[1], "seq": seq, "code": code, "received_ms": now_ms}
            for seq, code in fresh.items()
        ]
        db.execute(insert(REJECTED).on_conflict_do_nothing(), rows)
    return fresh


def _refused(db: Connection, key: Key, after: int) -> dict[int, str]:
    wanted = (
        select(REJECTED.c.seq, REJECTED.c.code)
        .where(*of(REJECTED, key), REJECTED.c.seq > after)
        .order_by(REJECTED.c.seq.desc())
        .limit(_RECENT)
    )
    return {row.seq: row.code for row in db.execute(wanted).all()}
