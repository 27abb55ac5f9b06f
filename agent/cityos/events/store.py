"""The city's events: each committed once, whatever arrives how often, and how complete they are.

Any number of workers, each with a store of its own, may work on one database. Whoever works on a
device holds its row until the commit (PostgreSQL), or writes alone (SQLite).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, update

from agent.base.values import Ack
from agent.cityos.control import configs, orders
from agent.cityos.db.database import committing, insert_for, open_engine, reading
from agent.cityos.db.schema import DEVICE, EVENT, STREAM
from agent.cityos.events import arrivals as arriving
from agent.cityos.events import asks, health, streams
from agent.cityos.events.arrivals import Arrival
from agent.cityos.events.health import DeviceRow, Pulse
from agent.cityos.events.sequence import Key, note_gaps, of, run_on, spans
from agent.protocol.control import Command, CommandResult, Config, SettingsReport
from agent.protocol.messages import Birth, Will

__all__ = ["Arrival", "DeviceRow", "Key", "Store", "spans"]

# A device goes back to a journal it had left only if two devices use one name, or somebody swaps
# cards to and fro. Several workers hear one birth, so a single return proves nothing.
_RETURNS = 3
_ANEW = "anew_after"  # in a noted birth: the connection after which the counter began anew
_ASIDE_CONFLICT = "the same number came with other content: is its journal a copy of another's?"
_ASIDE_RETURNS = "two journals take turns under this name: are there two devices of one name?"


class Store:
    """Owner of the city's database. Every method is one transaction; raises CityError."""

    def __init__(self, database: str, *, create: bool = True) -> None:
        """Open *database*: a path of a SQLite file, or an SQLAlchemy address."""
        self.engine: Engine = open_engine(database, create=create)
        self._insert = insert_for(self.engine)

    def commit(self, arrivals: dict[Key, Arrival], now_ms: int) -> dict[Key, Ack]:
        """Commit everything in one transaction; the acks are true once this has returned."""
        with committing(self.engine, "events cannot be committed") as db:
            # In one order, so that two workers cannot lock each other out.
            held = self._hold(
                db, {device for device, _ in arrivals}, now_ms, DEVICE.c.name, DEVICE.c.aside
            )
            closed = [device for device, row in held.items() if row.aside]
            acks, conflicting = arriving.commit(db, self._insert, arrivals, closed, now_ms)
            for device in conflicting.difference(closed):
                self._set_device(db, device, aside=_ASIDE_CONFLICT)
            seen = update(DEVICE).where(DEVICE.c.name.in_(held))
            db.execute(seen.values(last_seen_ms=now_ms))
        return acks

    def state(
        self, device: str, state: Birth | Will, now_ms: int, *, retained: bool = False
    ) -> bool:
        """Note a birth or a will; False if it is stale: an older connection's, come late.

        A device whose counter starts anew is believed: with a new journal, or when it says so just
        now while it was held to be offline. *retained*: nobody has said it just now, the broker had
        kept it, and after a crash it may have kept an old one.
        """
        return self.states([(device, state, retained)], now_ms)[0]

    def states(self, told: Sequence[tuple[str, Birth | Will, bool]], now_ms: int) -> list[bool]:
        """The same for many in one transaction: a whole fleet may come back at once."""
        if not told:
            return []
        with committing(self.engine, "devices' states cannot be noted") as db:
            held = self._hold(db, {device for device, _, _ in told}, now_ms, DEVICE)
            # In one order of devices, so that two workers cannot lock each other out.
            order = sorted(range(len(told)), key=lambda at: told[at][0])
            fresh = {}
            for at in order:
                device, state, retained = told[at]
                # What came before may have changed the row.
                row = held.pop(device, None) or _device(db, device)
                fresh[at] = self._state(db, row, state, retained, now_ms)
        return [fresh[at] for at in range(len(told))]

    def due(self, now_ms: int, *, signed: bool = False) -> list[Command]:
        """Commands for all that is missing without progress, and what a person ordered.

        What is returned is noted as sent; another worker does not get it too. Without *signed*
        only what devices take unsigned.
        """
        with committing(self.engine, "commands cannot be noted") as db:
            return [*asks.due(db, now_ms), *orders.due(db, now_ms, signed=signed)]

    def result(self, device: str, outcome: CommandResult, now_ms: int) -> None:
        """Note what became of a command that a person ordered; others are not waited for."""
        with committing(self.engine, "a result cannot be noted") as db:
            orders.answered(db, device, outcome, now_ms)

    def configs_due(self, now_ms: int) -> list[Config]:
        """Settings to be published now, noted as sent."""
        with committing(self.engine, "settings cannot be noted") as db:
            return configs.due(db, now_ms)

    def reported(self, device: str, report: SettingsReport, now_ms: int) -> None:
        """Note what *device* says of its settings."""
        with committing(self.engine, "a report cannot be noted") as db:
            configs.reported(db, self._insert, device, report, now_ms)

    def events(
        self,
        device: str | None = None,
        since: int = 0,
        limit: int = 100,
        kinds: Collection[str] = (),
    ) -> list[dict[str, Any]]:
        """Events with seq > *since*, newest *limit* of them, in the order they were received.

        Of *kinds*, or of all when there are none. ``body`` is a dict, None for a resident's event.
        """
        wanted = select(EVENT).where(EVENT.c.seq > since)
        if device is not None:
            wanted = wanted.where(EVENT.c.device == device)
        if kinds:
            wanted = wanted.where(EVENT.c.kind.in_(kinds))
        newest_first = wanted.order_by(
            EVENT.c.received_ms.desc(), EVENT.c.device, EVENT.c.epoch, EVENT.c.seq.desc()
        ).limit(limit)
        with reading(self.engine) as db:
            rows = db.execute(newest_first).all()
        return [
            {**row._mapping, "body": json.loads(row.body) if row.body else None}
            for row in reversed(rows)
        ]

    def event_count(self) -> int:
        """How many events there are."""
        with reading(self.engine) as db:
            return int(db.execute(select(func.count()).select_from(EVENT)).scalar_one())

    def devices(self) -> list[DeviceRow]:
        """Every device that ever spoke, by name."""
        with reading(self.engine) as db:
            return health.devices(db)

    def pulses(self) -> list[Pulse]:
        """The same without counts of events: quick."""
        with reading(self.engine) as db:
            return health.pulses(db)

    def close(self) -> None:
        """Close every connection; safe to call twice."""
        self.engine.dispose()

    def _hold(
        self, db: Connection, names: Iterable[str], now_ms: int, *columns: Any
    ) -> dict[str, Row[Any]]:
        """Hold the rows of these devices, made where there is none, until the commit: *columns*."""
        wanted = sorted(names)
        held = (
            select(*columns)
            .where(DEVICE.c.name.in_(wanted))
            .order_by(DEVICE.c.name)
            .with_for_update()
        )
        found = db.execute(held).all()
        if len(found) < len(wanted):
            first = {
                **{"online": True, "connection": 0, "birth": "{}", "last_seen_ms": now_ms},
                **{"aside": "", "returns": 0},
            }
            rows = [{"name": name, **first} for name in wanted]
            db.execute(self._insert(DEVICE).on_conflict_do_nothing(), rows)
            found = db.execute(held).all()
        return {row.name: row for row in found}

    def _set_device(self, db: Connection, device: str, **changes: Any) -> None:
        db.execute(update(DEVICE).where(DEVICE.c.name == device).values(changes))

    def _state(
        self, db: Connection, row: Row[Any], state: Birth | Will, retained: bool, now_ms: int
    ) -> bool:
        before = json.loads(row.birth)
        if isinstance(state, Will):
            # The will of the last connection before the counter began anew says nothing any more.
            if state.connection < row.connection or state.connection == before.get(_ANEW):
                return False
            if row.online or state.connection != row.connection:
                self._set_device(db, row.name, connection=state.connection, online=False)
            return True
        if state.connection < row.connection:
            if before.get("epoch") == state.epoch:
                # Its counter is lost (a full or damaged card), if no connection is open above it.
                if retained or row.online:
                    return False
            elif retained and _was_born(db, (row.name, state.epoch)):
                return False
        self._born(db, row, state, now_ms)
        return True

    def _born(self, db: Connection, row: Row[Any], birth: Birth, now_ms: int) -> None:
        device = row.name
        before = json.loads(row.birth)
        told = health.birth_record(birth)
        highest = max(row.connection, before.get(_ANEW, 0))
        if birth.connection < highest:
            told[_ANEW] = highest
        record = json.dumps(told, ensure_ascii=False)
        if row.online and (row.connection, row.birth) == (birth.connection, record):
            # Another worker heard it too, or the broker had kept it: all but the clocks is noted.
            arriving.correct(db, self._insert, device, birth.clocks)
            return
        changes: dict[str, Any] = {
            "connection": birth.connection,
            "online": True,
            "birth": record,
        }
        if birth.connection != row.connection:
            # Else the broker repeats what it kept: nobody was seen just now.
            changes["last_seen_ms"] = now_ms
        held = streams.hold(db, self._insert, [(device, each.epoch) for each in birth.epochs])
        ends = {}
        for bounds in birth.epochs:
            key = (device, bounds.epoch)
            stream = held[key]
            upto = stream.upto
            if bounds.first - 1 > upto:
                # The device holds nothing below: what is missing there will never come.
                note_gaps(db, self._insert, key, upto + 1, bounds.first - 1, "gone", now_ms)
                upto = run_on(db, key, bounds.first - 1)
            ends[key] = upto, max(stream.last, bounds.last)
            if bounds.epoch != birth.epoch:
                continue
            if stream.born and before.get("epoch") not in (None, birth.epoch):
                changes["returns"] = row.returns + 1
                if row.returns + 1 >= _RETURNS and not row.aside:
                    changes["aside"] = _ASIDE_RETURNS
            if not stream.born:
                db.execute(update(STREAM).where(*of(STREAM, key)).values(born=True))
        streams.move(db, held, ends, now_ms)
        arriving.correct(db, self._insert, device, birth.clocks)
        self._set_device(db, device, **changes)


def _was_born(db: Connection, key: Key) -> bool:
    born = select(STREAM.c.born).where(*of(STREAM, key))
    return bool(db.execute(born).scalar())


def _device(db: Connection, name: str) -> Row[Any]:
    return db.execute(select(DEVICE).where(DEVICE.c.name == name)).one()
