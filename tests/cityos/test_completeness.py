"""What the city lacks it asks for again; what will never come it knows; what lies it sets aside."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.base.errors import CityError, UsageError
from agent.base.events import Moment, StoredEvent
from agent.base.values import Ack, Nack
from agent.cityos.events.asks import AGAIN_MS, GRACE_MS, MOST_NUMBERS, MOST_RANGES
from agent.cityos.events.store import Arrival, Store
from agent.cityos.usecases import steering, upkeep
from agent.protocol.commands import Replay, read_replay, replay_arguments
from agent.protocol.control import CommandResult
from agent.protocol.items import Lost
from agent.protocol.messages import Birth, Bounds, Offset, Will
from tests.cityos.database import database_of
from tests.events import EPOCH, OTHER_EPOCH, stored

DEVICE = "bus-1"
KEY = (DEVICE, EPOCH)


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def arrive(store: Store, *seqs: int, now_ms: int = 1_000, **more: object) -> Ack:
    arrival = Arrival({seq: stored(seq) for seq in seqs}, **more)  # type: ignore[arg-type]
    return store.commit({KEY: arrival}, now_ms)[KEY]


def born(
    store: Store,
    connection: int = 1,
    *,
    first: int = 1,
    last: int = 0,
    epoch: str = EPOCH,
    clocks: tuple[Offset, ...] = (),
    now_ms: int = 1_000,
) -> None:
    bounds = (Bounds(epoch, first, last),)
    store.state(DEVICE, Birth(connection, epoch, bounds, "0.1.0", clocks=clocks), now_ms)


def asked(store: Store, now_ms: int) -> list[tuple[int, int]]:
    return [(replay.first, replay.last) for replay in replays(store, now_ms)]


def replays(store: Store, now_ms: int) -> list[Replay]:
    due = store.due(now_ms)
    assert all((command.device, command.command) == (DEVICE, "replay") for command in due)
    return [read_replay(command.arguments) for command in due]


def test_exactly_what_is_missing_is_asked_for_after_a_while_without_progress(store: Store) -> None:
    born(store, last=12)
    arrive(store, 1, 2, 5, 6, rejected={9: "bad_kind"})
    assert asked(store, 1_000 + GRACE_MS - 1) == []
    assert asked(store, 1_000 + GRACE_MS) == [(3, 4), (7, 8), (10, 12)]


def test_it_is_not_asked_again_before_the_device_had_time(store: Store) -> None:
    born(store, last=3)
    assert asked(store, 10_000) == [(1, 3)]
    assert asked(store, 10_000 + AGAIN_MS - 1) == []
    assert asked(store, 10_000 + AGAIN_MS) == [(1, 3)]


def test_what_flows_is_not_asked_for(store: Store) -> None:
    born(store, last=1_000)
    for step in range(1, 6):
        arrive(store, step, now_ms=step * 4_000)
    assert asked(store, 20_000 + GRACE_MS - 1) == []


def test_a_device_that_is_away_or_lost_its_journal_is_not_asked(store: Store) -> None:
    born(store, last=5)
    store.state(DEVICE, Will(1), 1_000)
    assert asked(store, 60_000) == []
    born(store, 2, last=5, epoch=OTHER_EPOCH)
    assert [replay.epoch for replay in replays(store, 120_000)] == [OTHER_EPOCH]
    assert any("no longer has that journal" in alarm for alarm in store.devices()[0].alarms)


def test_asking_is_bounded_and_goes_on_where_it_stopped(store: Store) -> None:
    born(store, last=MOST_NUMBERS * 3)
    assert asked(store, 60_000) == [(1, MOST_NUMBERS)]
    arrive(store, *range(200, 300, 2), now_ms=60_000)
    assert len(asked(store, 60_000 + AGAIN_MS)) == MOST_RANGES


def test_two_workers_do_not_ask_for_the_same(open_store: Callable[[], Store]) -> None:
    one, two = open_store(), open_store()
    born(one, last=5)
    assert (asked(one, 60_000), asked(two, 60_000)) == ([(1, 5)], [])


def test_numbers_that_will_never_come_are_a_known_gap_and_hold_nothing_up(store: Store) -> None:
    born(store, last=9)
    assert arrive(store, 1, 2, 5, 8).upto == 2
    ack = arrive(store, 3, lost=[Lost(EPOCH, 4, 4, "too_big"), Lost(EPOCH, 6, 7, "gone")])
    assert (ack.upto, store.devices()[0].gaps, store.devices()[0].lag) == (8, 2, 1)
    assert arrive(store, 9).upto == 9
    assert asked(store, 60_000) == []


def test_words_beyond_a_hole_are_acknowledged_as_ranges_and_count_once_it_closes(
    store: Store,
) -> None:
    born(store, last=9)
    ack = arrive(store, 1, lost=[Lost(EPOCH, 4, 8, "gone")])
    assert (ack.upto, ack.have) == (1, ((4, 8),))
    assert arrive(store, 2, 3).upto == 8


def test_a_word_about_numbers_nobody_handed_out_is_refused(store: Store) -> None:
    """Else one broken device could declare its whole future lost."""
    born(store, last=3)
    ack = arrive(store, 1, lost=[Lost(EPOCH, 2, 2**40, "gone")])
    assert (ack.upto, ack.nack) == (2, (Nack(2, "bad_lost"),))
    assert arrive(store, 2, 3).upto == 3


def test_what_was_called_lost_and_comes_after_all_is_kept_and_no_gap(store: Store) -> None:
    born(store, last=9)
    arrive(store, 1, 9, lost=[Lost(EPOCH, 2, 8, "gone")])
    assert arrive(store, 4, 5).upto == 9
    assert (store.event_count(), store.devices()[0].gaps) == (4, 2)  # 2 to 3, and 6 to 8


def test_a_database_restored_from_yesterday_asks_for_all_since(store: Store) -> None:
    arrive(store, *range(1, 11))
    born(store, 7, first=1, last=25)  # what the device holds, all acknowledged long ago
    assert asked(store, 60_000) == [(11, 25)]
    assert arrive(store, *range(11, 26)).upto == 25


def unknown_time(seq: int, boot: str, mono_ms: int) -> StoredEvent:
    plain = stored(seq)
    moment = Moment(boot, mono_ms, 77, "unset", -1)
    return dataclasses.replace(plain, event=dataclasses.replace(plain.event, moment=moment))


def corrected(store: Store) -> list[int | None]:
    return [row["corrected_ms"] for row in store.events()]


def test_a_time_found_later_reaches_the_events_of_that_boot_only(store: Store) -> None:
    events = {1: unknown_time(1, "a", 500), 2: unknown_time(2, "b", 600), 3: stored(3)}
    store.commit({KEY: Arrival(events)}, 1_000)
    for _ in range(2):
        born(store, last=3, clocks=(Offset("a", 1_790_000_000_000),))
        assert corrected(store) == [1_790_000_000_500, None, None]


def test_an_event_sent_before_the_time_was_found_is_corrected_when_it_comes_after(
    store: Store,
) -> None:
    born(store, last=2, clocks=(Offset("a", 1_790_000_000_000),))
    store.commit({KEY: Arrival({1: unknown_time(1, "a", 500)})}, 1_000)
    assert corrected(store) == [1_790_000_000_500]


def test_a_repeat_that_brings_the_time_adds_it_and_is_no_contradiction(store: Store) -> None:
    plain = unknown_time(1, "a", 500)
    store.commit({KEY: Arrival({1: plain})}, 1_000)
    store.commit({KEY: Arrival({1: dataclasses.replace(plain, corrected_ms=9)})}, 1_000)
    assert (corrected(store), store.devices()[0].aside) == ([9], "")


def other(seq: int) -> StoredEvent:
    return stored(seq, stop="elsewhere")


def test_one_number_with_two_contents_sets_the_device_aside_and_others_flow(store: Store) -> None:
    arrive(store, 1, 2, 3)
    bus_2 = ("bus-2", EPOCH)
    acks = store.commit(
        {KEY: Arrival({3: other(3), 4: other(4)}), bus_2: Arrival({1: stored(1)})}, 1
    )
    assert (acks[KEY].upto, acks[KEY].have, acks[KEY].nack) == (0, (), (Nack(3, "conflict"),))
    assert acks[bus_2].upto == 1
    device = store.devices()[0]
    assert "copy" in device.aside
    assert (device.events, device.alarms) == (3, (f"set aside: {device.aside}",))


def test_nothing_more_is_taken_from_a_device_set_aside_until_it_is_released(store: Store) -> None:
    arrive(store, 1)
    store.commit({KEY: Arrival({1: other(1)})}, 1_000)
    assert (arrive(store, 2).upto, store.event_count()) == (0, 1)
    assert [row["seq"] for row in upkeep.quarantine(database_of(store))] == [None]
    assert upkeep.release(database_of(store), DEVICE, None, 1_000) == upkeep.Released(True, 0)
    assert arrive(store, 2).upto == 2


def test_two_journals_that_take_turns_under_one_name_are_noticed(store: Store) -> None:
    for connection in range(1, 8):
        born(store, connection, epoch=(EPOCH, OTHER_EPOCH)[connection % 2])
    assert "two devices" in store.devices()[0].aside


def test_a_new_card_and_births_heard_by_several_workers_are_no_alarm(store: Store) -> None:
    for epoch, connection in ((EPOCH, 8), (OTHER_EPOCH, 1)):
        for _ in range(4):
            born(store, connection, epoch=epoch)
    assert store.devices()[0].aside == ""


def test_a_refused_event_is_offered_again_when_a_person_releases_it(store: Store) -> None:
    born(store, last=3)
    arrive(store, 1, 3, rejected={2: "bad_kind"})
    assert upkeep.release(database_of(store), DEVICE, 2, 1_000) == upkeep.Released(False, 1)
    assert replays(store, 1_000) == [Replay(EPOCH, 2, 2, refused=True)]
    arrive(store, 2)
    assert upkeep.quarantine(database_of(store)) == []


def test_a_dropped_event_is_a_gap_for_good(store: Store) -> None:
    born(store, last=3)
    arrive(store, 1, 3, rejected={2: "bad_kind"})
    assert upkeep.drop(database_of(store), DEVICE, None, 1_000) == 1
    assert (upkeep.quarantine(database_of(store)), store.devices()[0].gaps) == ([], 1)
    assert asked(store, 60_000) == []


def test_what_a_person_asks_for_is_repeated_until_the_device_answers(store: Store) -> None:
    born(store, last=9)
    arrive(store, *range(1, 10))
    mine = steering.send(
        database_of(store), DEVICE, "replay", replay_arguments(Replay(EPOCH, 2, 3)), 1_000
    )
    assert asked(store, 1_000) == [(2, 3)]
    assert asked(store, 1_000 + AGAIN_MS) == [(2, 3)]
    # Another device's word counts for nothing.
    store.result("bus-2", CommandResult(mine, "done"), 2_000)
    assert asked(store, 1_000 + 2 * AGAIN_MS) == [(2, 3)]
    store.result(DEVICE, CommandResult(mine, "done", detail={"count": 2}), 2_000)
    assert asked(store, 1_000 + 3 * AGAIN_MS) == []
    with pytest.raises(CityError, match="no device called"):
        steering.send(database_of(store), "bus-9", "ping", {}, 1_000)


def test_pruned_events_are_gone_and_a_late_repeat_does_not_bring_them_back(store: Store) -> None:
    day_ms = 86_400_000
    arrive(store, 1, 2, 3, now_ms=day_ms)
    arrive(store, 4, 5, now_ms=9 * day_ms)
    assert upkeep.prune(database_of(store), 7.0, 10 * day_ms) == 3
    assert (arrive(store, 2, 3).upto, store.event_count()) == (5, 2)
    assert upkeep.prune(database_of(store), 7.0, 10 * day_ms) == 0


def test_only_what_is_complete_is_pruned(store: Store) -> None:
    arrive(store, 1, 2, 4, now_ms=0)
    assert upkeep.prune(database_of(store), 1.0, 10 * 86_400_000) == 2
    assert arrive(store, 3).upto == 4


def test_a_backup_is_a_whole_database_made_while_others_write(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "city.db"))
    arrive(store, 1, 2, 3)
    upkeep.backup(database_of(store), str(tmp_path / "copy.db"))
    arrive(store, 4)
    copy = Store(str(tmp_path / "copy.db"))
    assert copy.event_count() == 3
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="exists already"):
        upkeep.backup(database_of(store), str(tmp_path / "copy.db"))
    copy.close()
    store.close()


OLD = """
CREATE TABLE event (device VARCHAR NOT NULL, epoch VARCHAR NOT NULL, seq BIGINT NOT NULL,
 kind VARCHAR NOT NULL, purpose VARCHAR NOT NULL, person VARCHAR NOT NULL,
 place_kind VARCHAR NOT NULL, place VARCHAR NOT NULL, door VARCHAR NOT NULL, stop VARCHAR,
 boot VARCHAR NOT NULL, mono_ms BIGINT NOT NULL, wall_ms BIGINT NOT NULL, clock VARCHAR NOT NULL,
 error_ms BIGINT NOT NULL, corrected_ms BIGINT, received_ms BIGINT NOT NULL,
 PRIMARY KEY (device, epoch, seq));
CREATE TABLE stream (device VARCHAR NOT NULL, epoch VARCHAR NOT NULL, upto BIGINT NOT NULL,
 PRIMARY KEY (device, epoch));
"""


def test_a_database_from_before_versions_is_converted_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "city.db"
    with sqlite3.connect(path) as db:
        db.executescript(OLD)
        db.executemany(
            "INSERT INTO event VALUES ('bus-1', ?, ?, 'boarding', 'bus', 'p', 'bus', 'b', 'd',"
            " NULL, 'x', 1, 1, 'ntp', 1, NULL, 1)",
            [(EPOCH, seq) for seq in (1, 2, 5)],
        )
        db.execute("INSERT INTO stream VALUES ('bus-1', ?, 2)", (EPOCH,))
    db.close()
    with pytest.raises(CityError, match="older layout"):
        Store(str(path), create=False)
    store = Store(str(path))
    born(store, last=5)
    assert asked(store, 60_000) == [(3, 4)]
    assert arrive(store, 3, 4).upto == 5
    store.close()


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    Store(str(tmp_path / "city.db")).close()
    with sqlite3.connect(tmp_path / "city.db") as db:
        db.execute("INSERT INTO migration VALUES (99, 0)")
    db.close()
    with pytest.raises(CityError, match="newer kaopass"):
        Store(str(tmp_path / "city.db"))
