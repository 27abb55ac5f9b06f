"""The city's events: each committed once, whatever arrives how often, and how complete they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from agent.cityos.schema import DEVICE, EVENT, GAP, REJECTED, STREAM, open_engine
from agent.errors import CityError
from agent.sync.messages import MAX_RANGES, Birth, Gone
from agent.values import Ack, Nack, StoredEvent

# A device has at most 16 batches of 100 in flight (settings), so an ack that was lost cannot have
# refused anything further back than that. Repeating it makes a lost nack harmless.
_RECENT = 2_000
_STEP = 1_000

Key = tuple[str, str]  # device, epoch


@dataclass(slots=True)
class Arrival:
    """What came in of one (device, epoch), to be committed together."""

    events: dict[int, StoredEvent] = field(default_factory=dict)
    rejected: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device at a glance. ``epochs`` maps each epoch to where it is complete up to."""

    name: str
    online: bool
    connection: int
    software: str
    last_seen_ms: int
    epochs: dict[str, int]
    events: int
    rejected: int
    gaps: int


class Store:
    """Owner of the city's database. Every method is one transaction; raises CityError."""

    def __init__(self, database: str, *, create: bool = True) -> None:
        """Open *database*: a path of a SQLite file, or an SQLAlchemy address."""
        self._engine: Engine = open_engine(database, create=create)
        self._insert: Any = (
            postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        )

    def commit(self, arrivals: dict[Key, Arrival], now_ms: int) -> dict[Key, Ack]:
        """Commit everything in one transaction; the acks are true once this has returned."""
        try:
            with self._engine.begin() as db:
                # In one order, so that two workers cannot lock each other out.
                acks = {
                    key: self._arrive(db, key, arrivals[key], now_ms) for key in sorted(arrivals)
                }
                for device in sorted({device for device, _ in arrivals}):
                    self._known(db, device, now_ms)
                    seen = update(DEVICE).where(DEVICE.c.name == device)
                    db.execute(seen.values(last_seen_ms=now_ms))
        except SQLAlchemyError as error:
            raise CityError(f"city database: events cannot be committed: {error}") from error
        return acks

    def state(self, device: str, state: Birth | Gone, now_ms: int) -> bool:
        """Note a birth or a will; False if it is stale: an older connection's, come late.

        A device whose counter starts anew with a new journal is believed.
        """
        try:
            with self._engine.begin() as db:
                self._known(db, device, now_ms)
                row = db.execute(select(DEVICE).where(DEVICE.c.name == device)).one()
                changes: dict[str, Any] = {"connection": state.connection}
                if isinstance(state, Gone):
                    if state.connection < row.connection:
                        return False
                    changes["online"] = False
                else:
                    same_journal = json.loads(row.birth).get("epoch") == state.epoch
                    if state.connection < row.connection and same_journal:
                        return False
                    changes["online"] = True
                    changes["birth"] = json.dumps(_birth_record(state), ensure_ascii=False)
                    if state.connection != row.connection:
                        # Else the broker repeats what it kept: nobody was seen just now.
                        changes["last_seen_ms"] = now_ms
                    for bounds in state.epochs:
                        self._starts_at(db, (device, bounds.epoch), bounds.first, now_ms)
                db.execute(update(DEVICE).where(DEVICE.c.name == device).values(changes))
        except SQLAlchemyError as error:
            raise CityError(f"city database: a device's state cannot be noted: {error}") from error
        return True

    def events(
        self, device: str | None = None, since: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Events with seq > *since*, newest *limit* of them, in the order they were received."""
        wanted = select(EVENT).where(EVENT.c.seq > since)
        if device is not None:
            wanted = wanted.where(EVENT.c.device == device)
        newest_first = wanted.order_by(
            EVENT.c.received_ms.desc(), EVENT.c.device, EVENT.c.epoch, EVENT.c.seq.desc()
        ).limit(limit)
        return [dict(row._mapping) for row in reversed(self._read(newest_first))]

    def event_count(self) -> int:
        """How many events there are."""
        return int(self._read(select(func.count()).select_from(EVENT))[0][0])

    def devices(self) -> list[DeviceRow]:
        """Every device that ever spoke, by name."""
        events, rejected, gaps = (self._count_by_device(t) for t in (EVENT, REJECTED, GAP))
        epochs: dict[str, dict[str, int]] = {}
        for row in self._read(select(STREAM).order_by(STREAM.c.epoch)):
            epochs.setdefault(row.device, {})[row.epoch] = row.upto
        return [
            DeviceRow(
                name=row.name,
                online=row.online,
                connection=row.connection,
                software=json.loads(row.birth).get("software", ""),
                last_seen_ms=row.last_seen_ms,
                epochs=epochs.get(row.name, {}),
                events=events.get(row.name, 0),
                rejected=rejected.get(row.name, 0),
                gaps=gaps.get(row.name, 0),
            )
            for row in self._read(select(DEVICE).order_by(DEVICE.c.name))
        ]

    def close(self) -> None:
        """Close every connection; safe to call twice."""
        self._engine.dispose()

    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        try:
            with self._engine.connect() as db:
                return db.execute(statement).all()
        except SQLAlchemyError as error:
            raise CityError(f"city database: cannot be read: {error}") from error

    def _count_by_device(self, table: Table) -> dict[str, int]:
        rows = self._read(select(table.c.device, func.count()).group_by(table.c.device))
        return {str(device): int(count) for device, count in map(tuple, rows)}

    def _arrive(self, db: Connection, key: Key, arrival: Arrival, now_ms: int) -> Ack:
        upto = self._upto(db, key)
        lowest = min([*arrival.events, *arrival.rejected])
        refused = self._refused(db, key, min(lowest, upto) - _RECENT)
        if arrival.events:
            rows = [_event_row(key[0], stored, now_ms) for stored in arrival.events.values()]
            db.execute(self._insert(EVENT).on_conflict_do_nothing(), rows)
        # What was refused once and is good now (a newer city side) is no longer refused.
        healed = refused.keys() & arrival.events.keys()
        if healed:
            db.execute(delete(REJECTED).where(*_of(REJECTED, key), REJECTED.c.seq.in_(healed)))
        fresh = self._reject(db, key, arrival, now_ms)
        refused = {seq: code for seq, code in refused.items() if seq not in healed} | fresh
        new_upto = self._advance(db, key, upto, arrival.events.keys() | fresh.keys())
        if new_upto != upto:
            db.execute(update(STREAM).where(*_of(STREAM, key)).values(upto=new_upto))
        return Ack(
            epoch=key[1],
            upto=new_upto,
            have=spans(seq for seq in arrival.events if seq > new_upto),
            nack=tuple(Nack(seq, refused[seq]) for seq in sorted(refused)[-MAX_RANGES:]),
            server_time_ms=now_ms,
        )

    def _reject(self, db: Connection, key: Key, arrival: Arrival, now_ms: int) -> dict[int, str]:
        """Record what is refused, except where a good event of that number is already there."""
        fresh = {seq: code for seq, code in arrival.rejected.items() if seq not in arrival.events}
        if fresh:
            good = select(EVENT.c.seq).where(*_of(EVENT, key), EVENT.c.seq.in_(fresh))
            for (seq,) in db.execute(good).all():
                del fresh[seq]
        if fresh:
            rows = [
                {"device": key[0], "epoch": key[1], "seq": seq, "code": code, "received_ms": now_ms}
                for seq, code in fresh.items()
            ]
            db.execute(self._insert(REJECTED).on_conflict_do_nothing(), rows)
        return fresh

    def _upto(self, db: Connection, key: Key) -> int:
        """Where the sequence is complete up to; locks it until the end of the transaction."""
        row = {"device": key[0], "epoch": key[1], "upto": 0}
        db.execute(self._insert(STREAM).on_conflict_do_nothing(), row)
        wanted = select(STREAM.c.upto).where(*_of(STREAM, key)).with_for_update()
        return int(db.execute(wanted).scalar_one())

    def _refused(self, db: Connection, key: Key, after: int) -> dict[int, str]:
        wanted = (
            select(REJECTED.c.seq, REJECTED.c.code)
            .where(*_of(REJECTED, key), REJECTED.c.seq > after)
            .order_by(REJECTED.c.seq.desc())
            .limit(_RECENT)
        )
        return {row.seq: row.code for row in db.execute(wanted).all()}

    def _advance(self, db: Connection, key: Key, upto: int, fresh: Iterable[int]) -> int:
        """The end of the run that starts at upto + 1. Only *fresh* numbers can have begun one."""
        new = set(fresh)
        start = upto
        while upto + 1 in new:
            upto += 1
        if upto == start:
            return start
        return self._run_on(db, key, upto)

    def _run_on(self, db: Connection, key: Key, upto: int) -> int:
        """Follow what is in the tables beyond *upto* as far as there is no hole."""
        while True:
            ahead = _numbers(key, upto).limit(_STEP)
            begun = upto
            for (seq,) in db.execute(ahead).all():
                if seq != upto + 1:
                    return upto
                upto = seq
            if upto - begun < _STEP:
                return upto

    def _starts_at(self, db: Connection, key: Key, first: int, now_ms: int) -> None:
        """The device holds nothing below *first*: what is missing there is a gap, noted once."""
        upto = self._upto(db, key)
        if first - 1 <= upto:
            return
        there = _numbers(key, upto, first)
        missing_from = upto + 1
        gaps = []
        for seq in [*(row[0] for row in db.execute(there).all()), first]:
            if seq > missing_from:
                gaps.append((missing_from, seq - 1))
            missing_from = seq + 1
        for gap_first, gap_last in gaps:
            row = {
                "device": key[0],
                "epoch": key[1],
                "first": gap_first,
                "last": gap_last,
                "noted_ms": now_ms,
            }
            db.execute(self._insert(GAP).on_conflict_do_nothing(), row)
        new_upto = self._run_on(db, key, first - 1)
        db.execute(update(STREAM).where(*_of(STREAM, key)).values(upto=new_upto))

    def _known(self, db: Connection, device: str, now_ms: int) -> None:
        row = {
            "name": device,
            "online": True,
            "connection": 0,
            "birth": "{}",
            "last_seen_ms": now_ms,
        }
        db.execute(self._insert(DEVICE).on_conflict_do_nothing(), row)


def spans(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """*numbers* as inclusive ranges, in order."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def _of(table: Table, key: Key) -> tuple[Any, Any]:
    return table.c.device == key[0], table.c.epoch == key[1]


def _numbers(key: Key, after: int, before: int | None = None) -> Any:
    """Numbers the city has an answer for, beyond *after*, in order."""
    parts = []
    for table in (EVENT, REJECTED):
        part = select(table.c.seq).where(*_of(table, key), table.c.seq > after)
        parts.append(part if before is None else part.where(table.c.seq < before))
    return parts[0].union(parts[1]).order_by("seq")


def _birth_record(birth: Birth) -> dict[str, Any]:
    return {
        "epoch": birth.epoch,
        "epochs": [[bounds.epoch, bounds.first, bounds.last] for bounds in birth.epochs],
        "software": birth.software,
        "gallery": {"version": birth.gallery_version, "root": birth.gallery_root},
        "settings_version": birth.settings_version,
    }


def _event_row(device: str, stored: StoredEvent, now_ms: int) -> dict[str, Any]:
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
