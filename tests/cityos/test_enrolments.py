"""What a device enrolled reaches the city once, waits to be settled, and leaves with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from agent.base.errors import CityError
from agent.cityos.db.database import committing, reading
from agent.cityos.db.schema import ENROLMENT
from agent.cityos.events import enrolments
from agent.cityos.events.store import Arrival, Store
from agent.cityos.service.app import BrokerAddress
from agent.cityos.usecases import upkeep
from tests.cityos.database import database_of
from tests.cityos.test_line import Device, city
from tests.events import EPOCH, enrolment, make_enrolment, stored
from tests.mosquitto import Mosquitto
from tests.waiting import until

KEY = ("bus-1", EPOCH)


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def arrive(store: Store, *seqs: int) -> None:
    events = {seq: enrolment(seq) if seq % 2 else stored(seq) for seq in seqs}
    store.commit({KEY: Arrival(events)}, 1_000)


def waiting(store: Store) -> list[enrolments.Waiting]:
    with committing(store.engine, "test") as db:
        return enrolments.waiting(db, 100)


def settle(store: Store, seq: int, state: str) -> None:
    with committing(store.engine, "test") as db:
        enrolments.settle(db, KEY, seq, state, "why" if state == enrolments.REFUSED else "")


def test_each_waits_once_however_often_it_comes(store: Store) -> None:
    for _ in range(3):
        arrive(store, 1, 2, 3, 4)
    assert [(each.device, each.seq) for each in waiting(store)] == [("bus-1", 1), ("bus-1", 3)]
    assert waiting(store)[0].sealed == make_enrolment(1).sealed
    assert store.event_count() == 4


def test_settled_it_is_gone_and_a_repeat_does_not_bring_it_back(store: Store) -> None:
    arrive(store, 1, 3)
    settle(store, 1, enrolments.TAKEN)
    settle(store, 3, enrolments.REFUSED)
    arrive(store, 1, 3)
    assert waiting(store) == []
    with reading(store.engine) as db:
        rows = db.execute(select(ENROLMENT)).all()
    assert {row.seq: (row.state, row.reason, row.sealed) for row in rows} == {
        1: ("taken", "", ""),
        3: ("refused", "why", ""),
    }
    with pytest.raises(CityError, match="does not wait"):
        settle(store, 1, enrolments.TAKEN)


def test_no_two_workers_settle_the_same(database: str, open_store: Callable[[], Store]) -> None:
    first, second = open_store(), open_store()
    arrive(first, 1, 3)
    if not database.startswith("postgresql"):
        return  # there only one writes at a time
    with committing(first.engine, "test") as db:
        assert len(enrolments.waiting(db, 1)) == 1
        assert [each.seq for each in waiting(second)] == [3]


def test_pruned_with_its_event_only_when_settled(store: Store) -> None:
    arrive(store, 1, 2, 3)
    settle(store, 1, enrolments.TAKEN)
    assert upkeep.prune(database_of(store), 0.0, 10_000) == 3
    arrive(store, 1, 2, 3)  # a late repeat is no news
    assert [each.seq for each in waiting(store)] == [3]


def test_nothing_lists_what_is_sealed(store: Store) -> None:
    arrive(store, 1)
    assert "sealed" not in store.events()[0]


def test_from_a_journal_over_a_broker_that_fails_exactly_once(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    made = [make_enrolment(number) for number in range(1, 6)]
    broker = BrokerAddress("127.0.0.1", mosquitto.port)
    with (
        city(store, broker),
        Device(tmp_path / "bus", mosquitto.port, lost_acks=2) as device,
    ):
        for number, event in enumerate(made):
            device.journal.append(event)
            device.board(3)
            if number == 2:
                mosquitto.kill()
                until(lambda: not device.sync.status.connected)
                mosquitto.start()
        until(device.drained)
    assert [each.sealed for each in waiting(store)] == [event.sealed for event in made]
    assert store.event_count() == 20
