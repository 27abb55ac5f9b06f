"""What arrived of one sequence, committed: events once, refusals and losses noted, and the ack.

Functions on a connection inside a transaction that holds the device's row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, String, delete, select, text, update

from agent.cityos import enrolments
from agent.cityos.schema import CLOCK, EVENT, REJECTED, STREAM, UNKNOWN_CLOCKS
from agent.cityos.sequence import Key, close_gaps, note_gaps, of, run_on, spans
from agent.sync.items import Lost
from agent.sync.messages import MAX_RANGES, Offset
from agent.values import Ack, Nack, StoredEvent

# A device has at most 16 batches of 100 in flight (settings), so an ack that was lost cannot have
# refused anything further back than that. Repeating it makes a lost nack harmless.
_RECENT = 2_000
CONFLICT = "conflict"

# PostgreSQL takes all rows as one array a column: one round trip, where a row each costs one each.
_INSERT_COLUMNS = text(
    f"INSERT INTO event ({', '.join(EVENT.c.keys())}) SELECT * FROM unnest("  # noqa: S608 - our own
    + ", ".join(
        f"CAST(:{column.name} AS {'text' if isinstance(column.type, String) else 'bigint'}[])"
        for column in EVENT.c
    )
    + ") ON CONFLICT DO NOTHING"
)


@dataclass(slots=True)
class Arrival:
    """What came in of one (device, epoch), to be committed together."""

    events: dict[int, StoredEvent] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)


def conflicts(
    db: Connection, key: Key, arrival: Arrival, stream: Row[Any]
) -> tuple[set[int], set[int]]:
    """(numbers that are there with other content, numbers that are there as they came)."""
    suspects = [seq for seq in arrival.events if seq <= stream.last]
    if not suspects:
        return set(), set()
    there = select(EVENT).where(*of(EVENT, key), EVENT.c.seq.in_(suspects))
    other: set[int] = set()
    same: set[int] = set()
    for row in db.execute(there).all():
        came = event_row(key[0], arrival.events[row.seq], 0)
        is_same = all(
            row._mapping[name] == value
            for name, value in came.items()
            # Whose the event was is forgotten when they are erased.
            if name not in ("corrected_ms", "received_ms")
            and not (name == "person" and not row.person)
        )
        (same if is_same else other).add(row.seq)
    return other, same


def refuse_all(key: Key, other: set[int], now_ms: int) -> Ack:
    """The answer to a device that is set aside: nothing is taken, and what contradicts is named."""
    return Ack(key[1], 0, (), tuple(Nack(seq, CONFLICT) for seq in sorted(other)), now_ms)


def arrive(
    db: Connection,
    insert: Any,
    key: Key,
    arrival: Arrival,
    stream: Row[Any],
    same: set[int],
    now_ms: int,
) -> Ack:
    """Commit *arrival*, of which *same* is there already; returns what the city now has."""
    last = max(stream.last, *arrival.events, *arrival.rejected, 0)
    lost = [each for each in arrival.lost if each.last <= last]
    rejected = arrival.rejected | {
        each.first: "bad_lost" for each in arrival.lost if each.last > last
    }
    lowest = min([*arrival.events, *rejected, *(each.first for each in lost)])
    refused = _refused(db, key, min(lowest, stream.upto) - _RECENT)
    _insert_events(db, insert, key, arrival, same, stream, now_ms)
    # What was refused once and is good now (a newer city side) is no longer refused.
    healed = refused.keys() & arrival.events.keys()
    if healed:
        db.execute(delete(REJECTED).where(*of(REJECTED, key), REJECTED.c.seq.in_(healed)))
    fresh = _reject(db, insert, key, rejected, arrival.events, now_ms)
    refused = {seq: code for seq, code in refused.items() if seq not in healed} | fresh
    for each in lost:
        note_gaps(db, insert, key, max(each.first, stream.floor + 1), each.last, each.code, now_ms)
    upto = stream.upto
    new = arrival.events.keys() | fresh.keys()
    while upto + 1 in new:
        upto += 1
    if lost or stream.upto < upto < last:
        upto = run_on(db, key, upto)
    set_stream(db, key, stream, upto, last, now_ms)
    have = [*spans(seq for seq in arrival.events if seq > upto)]
    have += [(each.first, each.last) for each in lost if each.last > upto]
    return Ack(
        epoch=key[1],
        upto=upto,
        have=tuple(sorted(have)),
        nack=tuple(Nack(seq, refused[seq]) for seq in sorted(refused)[-MAX_RANGES:]),
        server_time_ms=now_ms,
    )


def lock_stream(db: Connection, insert: Any, key: Key) -> Any:
    """The sequence's row, made if *insert* is given and held until the transaction ends."""
    wanted = select(STREAM).where(*of(STREAM, key)).with_for_update()
    row = db.execute(wanted).one_or_none()
    if row is not None or insert is None:
        return row
    first = {
        **{"device": key[0], "epoch": key[1], "upto": 0, "last": 0, "floor": 0},
        **{"waiting_ms": None, "born": False},
    }
    db.execute(insert(STREAM).on_conflict_do_nothing(), first)
    return db.execute(wanted).one()


def set_stream(
    db: Connection, key: Key, stream: Row[Any], upto: int, last: int, now_ms: int
) -> None:
    """Note where the sequence stands; as long as it moves on, nothing is asked for."""
    waiting_ms = stream.waiting_ms
    if upto >= last:
        waiting_ms = None
    elif upto != stream.upto or waiting_ms is None:
        waiting_ms = now_ms
    if (upto, last, waiting_ms) != (stream.upto, stream.last, stream.waiting_ms):
        changed = {"upto": upto, "last": last, "waiting_ms": waiting_ms}
        db.execute(update(STREAM).where(*of(STREAM, key)).values(changed))


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
    key: Key,
    arrival: Arrival,
    same: set[int],
    stream: Row[Any],
    now_ms: int,
) -> None:
    fresh = {
        seq: stored
        for seq, stored in arrival.events.items()
        if seq > stream.floor and seq not in same
    }
    if fresh:
        rows = [event_row(key[0], stored, now_ms) for stored in fresh.values()]
        if db.dialect.name == "postgresql":
            columns = {name: [row[name] for row in rows] for name in rows[0]}
            db.execute(_INSERT_COLUMNS, columns)
        else:
            db.execute(insert(EVENT).on_conflict_do_nothing(), rows)
        enrolments.note(db, insert, key[0], fresh.values(), now_ms)
        if min(fresh) <= stream.last:
            close_gaps(db, insert, key, fresh)
    for seq in same:
        corrected_ms = arrival.events[seq].corrected_ms
        if corrected_ms is not None:
            late = update(EVENT).where(*of(EVENT, key), EVENT.c.seq == seq)
            late = late.where(EVENT.c.corrected_ms.is_(None))
            db.execute(late.values(corrected_ms=corrected_ms))
    # Sent before the device knew the time, come after it had said so.
    boots = {
        stored.event.moment.boot
        for stored in fresh.values()
        if stored.corrected_ms is None and stored.event.moment.clock in UNKNOWN_CLOCKS
    }
    if boots:
        known = select(CLOCK).where(CLOCK.c.device == key[0], CLOCK.c.boot.in_(boots))
        for row in db.execute(known).all():
            _correct_boot(db, key[0], row.boot, row.offset_ms)


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


def event_row(device: str, stored: StoredEvent, now_ms: int) -> dict[str, Any]:
    """*stored* as a row of the table ``event``."""
    event, place, moment = stored.event, stored.event.place, stored.event.moment
    return {
        "device": device,
        "epoch": stored.epoch,
        "seq": stored.seq,
        "kind": event.kind.value,
        "purpose": event.purpose,
        "person": event.person,
        "place_kind": place.kind,
        "place": place.name,
        "door": place.door,
        "stop": place.stop,
        "boot": moment.boot,
        "mono_ms": moment.mono_ms,
        "wall_ms": moment.wall_ms,
        "clock": moment.clock,
        "error_ms": moment.error_ms,
        "corrected_ms": stored.corrected_ms,
        "received_ms": now_ms,
    }
