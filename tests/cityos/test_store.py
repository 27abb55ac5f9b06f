"""The city commits each event once and knows how complete every sequence is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from agent.base.errors import CityError, UsageError
from agent.base.events import WHERE_COLUMNS
from agent.base.values import Ack, Nack
from agent.cityos.db.database import address, writing
from agent.cityos.events.store import Arrival, Store, spans
from agent.cityos.usecases import steering
from agent.protocol.messages import Birth, Bounds, Will
from tests.cityos.database import database_of
from tests.events import EPOCH, OTHER_EPOCH, stored

KEY = ("bus-1", EPOCH)


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def arrive(store: Store, *seqs: int, rejected: dict[int, str] | None = None) -> Ack:
    arrival = Arrival({seq: stored(seq) for seq in seqs}, rejected or {})
    return store.commit({KEY: arrival}, 1_000)[KEY]


def born(connection: int, first: int = 1, last: int = 0, epoch: str = EPOCH) -> Birth:
    return Birth(connection, epoch, (Bounds(epoch, first, last),), "0.1.0")


def upto(store: Store) -> int:
    return store.devices()[0].epochs[EPOCH]


def test_an_event_is_kept_field_by_field(store: Store) -> None:
    arrive(store, 1)
    assert store.events() == [
        {
            "device": "bus-1",
            "epoch": EPOCH,
            "seq": 1,
            "kind": "boarding",
            "purpose": "bus",
            "person": f"{1:064x}",
            "place_kind": "bus",
            "place": "パークバス　1号",
            "door": "front",
            "stop": "高森三丁目",
            "boot": "3f1c9e2a-boot",
            "mono_ms": 1_001,
            "wall_ms": 1_790_000_000_001,
            "clock": "ntp",
            "error_ms": 50,
            "corrected_ms": None,
            "received_ms": 1_000,
            **dict.fromkeys(WHERE_COLUMNS),
            "body": None,
        }
    ]


def test_a_repeat_changes_nothing_and_is_acknowledged_again(store: Store) -> None:
    assert arrive(store, 1, 2, 3) == arrive(store, 1, 2, 3)
    assert store.event_count() == 3


def test_upto_is_the_end_of_the_run_without_holes_and_have_is_what_is_beyond(store: Store) -> None:
    assert (arrive(store, 1, 2, 5, 6, 9).upto, upto(store)) == (2, 2)
    ack = arrive(store, 4, 11, 12, 14)
    assert (ack.upto, ack.have) == (2, ((4, 4), (11, 12), (14, 14)))
    assert arrive(store, 3).upto == 6


def test_a_rejected_event_counts_as_seen_and_is_named_with_its_reason(store: Store) -> None:
    ack = arrive(store, 1, 3, rejected={2: "bad_kind"})
    assert (ack.upto, ack.nack) == (3, (Nack(2, "bad_kind"),))
    assert store.devices()[0].rejected == 1


def test_a_nack_is_repeated_because_the_ack_that_carried_it_may_be_lost(store: Store) -> None:
    arrive(store, 1, 2, rejected={3: "bad_kind"})
    ack = arrive(store, 4, 5)
    assert (ack.upto, ack.nack) == (5, (Nack(3, "bad_kind"),))


def test_every_event_of_a_wholly_rejected_flight_is_named(store: Store) -> None:
    """Sixteen batches in one commit: none may be covered by upto and not be named."""
    ack = arrive(store, rejected=dict.fromkeys(range(1, 1_601), "bad_kind"))
    assert ack.upto == 1_600
    assert [nack.seq for nack in ack.nack] == list(range(1, 1_601))


def test_an_event_that_was_rejected_once_and_is_good_now_is_kept(store: Store) -> None:
    arrive(store, 1, rejected={2: "bad_kind"})
    ack = arrive(store, 2)
    assert (ack.nack, store.event_count(), store.devices()[0].rejected) == ((), 2, 0)


def test_an_event_that_is_there_is_not_rejected_afterwards(store: Store) -> None:
    arrive(store, 1, 2)
    ack = arrive(store, rejected={2: "bad_kind"})
    assert (ack.upto, ack.nack, store.devices()[0].rejected) == (2, (), 0)


def test_epochs_and_devices_count_for_themselves(store: Store) -> None:
    keys = [("bus-1", EPOCH), ("bus-1", OTHER_EPOCH), ("bus-2", EPOCH)]
    arrivals = {key: Arrival({1: stored(1, epoch=key[1])}) for key in keys}
    acks = store.commit(arrivals, 1_000)
    assert [(acks[key].epoch, acks[key].upto) for key in keys] == [(key[1], 1) for key in keys]
    assert store.event_count() == 3


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.permutations(range(1, 41)), st.sets(st.integers(1, 40)), st.integers(1, 9))
def test_in_whatever_order_and_pieces_events_come_upto_tells_the_truth(
    order: list[int], poison: set[int], piece: int
) -> None:
    store = Store("sqlite://")  # in memory
    seen: set[int] = set()
    for begin in range(0, 40, piece):
        part = order[begin : begin + piece]
        seen |= set(part)
        good = [seq for seq in part if seq not in poison]
        ack = arrive(store, *good, rejected={s: "bad_kind" for s in part if s in poison})
        assert ack.upto == next(n for n in range(41) if n + 1 not in seen)
        assert ack.have == spans(seq for seq in good if seq > ack.upto)
    assert store.event_count() == 40 - len(poison)
    store.close()


def statements_of(store: Store) -> list[str]:
    """Grows with every statement that *store* sends to its database, but for BEGIN."""
    seen: list[str] = []

    def note(*told: Any) -> None:
        if not told[2].startswith("BEGIN"):
            seen.append(told[2])

    event.listen(store.engine, "before_cursor_execute", note)
    return seen


def test_a_birth_that_another_worker_has_noted_costs_one_look(store: Store) -> None:
    told = [(f"bus-{bus}", born(1, last=10), False) for bus in range(30)]
    assert store.states(told, 1_000) == [True] * 30
    seen = statements_of(store)
    assert store.states(told, 2_000) == [True] * 30
    assert len(seen) == 1


def test_events_in_order_cost_as_many_statements_for_a_fleet_as_for_one_device(
    store: Store,
) -> None:
    """Also in the middle of a backlog, of which the birth has told the end."""

    seen = statements_of(store)

    def statements(buses: int, first: int) -> int:
        keys = [(f"bus-{bus}", EPOCH) for bus in range(buses)]
        arrivals = {key: Arrival({seq: stored(seq) for seq in (first, first + 1)}) for key in keys}
        seen.clear()
        acks = store.commit(arrivals, 1_000)
        assert {ack.upto for ack in acks.values()} == {first + 1}
        return len(seen)

    store.states([(f"bus-{bus}", born(1, last=10_000), False) for bus in range(30)], 1_000)
    assert statements(30, first=1) == statements(1, first=3) <= 6


def test_a_journal_that_starts_late_leaves_a_known_gap_and_goes_on(store: Store) -> None:
    """A new city side meets a device that has let its oldest acknowledged rows go."""
    store.state("bus-1", born(1, first=501, last=600), 1_000)
    assert upto(store) == 500
    assert arrive(store, 501, 502).upto == 502
    assert store.devices()[0].gaps == 1


def test_only_what_is_missing_becomes_a_gap_and_is_noted_once(store: Store) -> None:
    arrive(store, 1, 2, 5, 6, 10, 11, rejected={4: "bad_kind"})
    for connection in (1, 2):
        store.state("bus-1", born(connection, first=9, last=20), 1_000)
    assert (upto(store), store.devices()[0].gaps) == (8, 2)  # 3, and 7 to 8
    assert arrive(store, 9).upto == 11


def test_a_birth_never_takes_completeness_back(store: Store) -> None:
    arrive(store, *range(1, 11))
    store.state("bus-1", born(1, first=4, last=10), 1_000)
    assert (upto(store), store.devices()[0].gaps) == (10, 0)


def test_a_stale_will_is_ignored_and_the_right_one_counts(store: Store) -> None:
    assert store.state("bus-1", born(5), 1_000)
    assert not store.state("bus-1", Will(4), 2_000)
    assert store.devices()[0].online
    assert store.state("bus-1", Will(5), 3_000)
    device = store.devices()[0]
    assert (device.online, device.last_seen_ms, device.software) == (False, 1_000, "0.1.0")


def test_a_birth_of_an_older_connection_is_ignored_unless_the_journal_is_new(store: Store) -> None:
    store.state("bus-1", born(5), 1_000)
    assert not store.state("bus-1", born(4), 2_000)
    assert store.devices()[0].connection == 5
    store.state("bus-1", Will(5), 2_000)
    assert not store.state("bus-1", born(4), 2_000, retained=True)  # a broker's that crashed
    assert not store.devices()[0].online
    assert store.state("bus-1", born(1, epoch=OTHER_EPOCH), 3_000)  # a new SD card
    device = store.devices()[0]
    assert (device.online, device.connection) == (True, 1)


def test_a_device_that_lost_its_counter_and_kept_its_journal_is_online_and_commanded(
    store: Store,
) -> None:
    """A full card keeps no counter: each start counts from one, perhaps for weeks."""
    store.state("bus-1", born(57), 1_000)
    store.state("bus-1", Will(57), 1_000)
    ordered = steering.send(database_of(store), "bus-1", "revoke-now", {"key": "ab" * 32}, 2_000)
    assert store.due(2_000, signed=True) == []
    assert store.state("bus-1", born(1), 3_000)
    assert [command.id for command in store.due(3_000, signed=True)] == [ordered]
    assert not store.state("bus-1", Will(57), 4_000)  # of the connection before, come late
    assert not store.state("bus-1", Will(57), 4_000, retained=True)
    assert store.state("bus-1", born(1, last=9), 5_000)  # said again, as always
    assert not store.state("bus-1", Will(57), 6_000)
    device = store.devices()[0]
    assert (device.online, device.connection, device.aside) == (True, 1, "")
    assert store.state("bus-1", Will(1), 7_000)
    assert not store.devices()[0].online
    for connection in (2, 56, 57):
        assert store.state("bus-1", born(connection), 8_000)
        assert store.state("bus-1", Will(connection), 9_000)
        assert not store.devices()[0].online


def test_a_late_will_of_the_old_card_does_not_take_the_new_one_offline(store: Store) -> None:
    store.state("bus-1", born(57), 1_000)
    assert store.state("bus-1", born(1, epoch=OTHER_EPOCH), 2_000)
    assert not store.state("bus-1", Will(57), 3_000)
    assert store.devices()[0].online


def test_an_old_birth_that_a_crashed_broker_had_kept_is_no_return_to_the_old_journal(
    store: Store,
) -> None:
    """A salvage began a new epoch, and the broker's disk does not know of it yet."""
    store.state("bus-1", born(5), 1_000)
    for connection in range(6, 12):
        assert store.state("bus-1", born(connection, epoch=OTHER_EPOCH), 2_000)
        assert not store.state("bus-1", born(5), 3_000, retained=True)
    device = store.devices()[0]
    assert (device.epoch, device.connection, device.aside) == (OTHER_EPOCH, 11, "")


def test_a_new_card_that_was_born_while_the_city_side_was_away_is_believed(store: Store) -> None:
    store.state("bus-1", born(500), 1_000)
    assert store.state("bus-1", born(1, epoch=OTHER_EPOCH), 2_000, retained=True)
    assert store.devices()[0].epoch == OTHER_EPOCH


def test_a_repeated_birth_is_no_sign_of_life(store: Store) -> None:
    store.state("bus-1", born(5), 1_000)
    store.state("bus-1", born(5), 9_000)  # kept by the broker, for a city side that restarts
    assert store.devices()[0].last_seen_ms == 1_000


def test_events_are_listed_by_device_number_and_newest_limit(store: Store) -> None:
    arrive(store, *range(1, 21))
    store.commit({("bus-2", EPOCH): Arrival({1: stored(1)})}, 2_000)
    listed = [row["seq"] for row in store.events("bus-1", since=5, limit=3)]
    assert listed == [18, 19, 20]
    assert [row["device"] for row in store.events(limit=2)] == ["bus-1", "bus-2"]


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "city.db"))
    with store.engine.connect() as db:
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    store.close()


def test_what_is_committed_is_there_after_a_restart(open_store: Callable[[], Store]) -> None:
    first = open_store()
    arrive(first, 1, 2)
    first.close()
    assert arrive(open_store(), 3).upto == 3


def test_nothing_is_committed_when_one_part_fails(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "city.db"))
    arrive(store, 1)
    with sqlite3.connect(tmp_path / "city.db") as db:
        db.execute("DROP TABLE rejected")
    db.close()
    with pytest.raises(CityError, match="cannot be committed"):
        arrive(store, 2)
    assert store.event_count() == 1
    store.close()


def test_an_error_of_the_database_tells_nobodys_values(store: Store) -> None:
    """It goes to the log, and pseudonyms must not."""
    with writing(store.engine).begin() as db:
        if store.engine.dialect.name == "sqlite":
            refuse = (
                "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        else:
            refuse = "ALTER TABLE event ADD CONSTRAINT full_ CHECK (seq < 0)"
        db.exec_driver_sql(refuse)
    with pytest.raises(CityError, match="cannot be committed") as caught:
        arrive(store, 7)
    cause = caught.value.__cause__
    assert cause is not None
    told = f"{caught.value} {cause} {cause.__cause__}"
    assert "INSERT INTO event" in told  # what it was about is said
    for value in (f"{7:064x}", "パークバス", "1790000000007"):
        assert value not in told


def test_a_path_that_cannot_be_opened_or_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, though it is long enough" * 30)
    with pytest.raises(CityError, match=r"text\.db"):
        Store(str(tmp_path / "text.db"))
    with pytest.raises(CityError, match="cannot be opened"):
        Store(str(tmp_path / "missing" / "city.db"))
    with pytest.raises(CityError, match="no such file"):
        Store(str(tmp_path / "none.db"), create=False)


def test_an_address_is_taken_as_it_is_and_a_path_is_a_sqlite_file() -> None:
    assert address("postgresql+psycopg://u:p@h/city") == "postgresql+psycopg://u:p@h/city"
    assert address("postgresql://u:p@h/city") == "postgresql+psycopg://u:p@h/city"
    assert address("/var/city.db") == "sqlite:////var/city.db"
    with pytest.raises(UsageError, match="only sqlite and postgresql"):
        address("mysql://u:secret@h/city")


def test_a_missing_driver_is_said_without_the_password() -> None:
    with pytest.raises(CityError, match="driver is missing") as caught:
        Store("postgresql+pg8000://city:secret@localhost/city")
    assert "secret" not in str(caught.value)
