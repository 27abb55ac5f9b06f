"""The whole line made whole again: restored backups, wiped brokers, clones, poison, nonsense."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.events import Moment
from agent.base.values import LinkUp
from agent.cityos.events import asks
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress
from agent.cityos.usecases import upkeep
from agent.hw.net.mqtt import MqttLink
from agent.protocol import topics
from tests.cityos.database import database_of
from tests.cityos.test_line import Device, city, numbers
from tests.events import make_event
from tests.mosquitto import Mosquitto
from tests.waiting import until


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = Store(database)
    yield opened
    opened.close()


def restored(tmp_path: Path, name: str) -> Store:
    copy = tmp_path / "restored.db"
    shutil.copyfile(tmp_path / name, copy)
    return Store(str(copy))


def shout(port: int, *messages: tuple[str, bytes]) -> None:
    """Publish as somebody else on the broker."""
    link = MqttLink("127.0.0.1", port, client_id="somebody")
    link.open()
    until(lambda: any(isinstance(event, LinkUp) for event in link.turn(0.1)))
    for topic, payload in messages:
        link.publish(topic, payload)
    until(lambda: not link.unanswered, meanwhile=lambda: link.turn(0.02))
    link.close()


def test_a_city_restored_from_yesterday_is_made_whole_without_a_hand_on_the_device(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """The broker is wiped too: what it kept for the city is gone with it."""
    broker = BrokerAddress("127.0.0.1", mosquitto.port)
    today = Store(str(tmp_path / "city.db"))
    with Device(tmp_path / "bus", mosquitto.port) as device:
        with city(today, broker):
            device.board(40)
            until(device.drained)
            upkeep.backup(database_of(today), str(tmp_path / "yesterday.db"))
            device.board(160)
            until(device.drained)
        today.close()
        mosquitto.kill()  # it keeps nothing on the disk: a start is a wiped broker
        mosquitto.start()
        store = restored(tmp_path, "yesterday.db")
        with city(store, broker):
            until(lambda: store.event_count() == 200, seconds=asks.GRACE_MS / 1000 + 15)
            until(device.drained)
        assert numbers(store) == list(range(1, 201))
        assert store.devices()[0].lag == 0
        assert device.sync.status.replayed == 160
        store.close()


def test_a_device_with_nothing_new_to_say_still_fills_a_restored_city(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """The broker's kept birth is as old as the connection: it is renewed when events have come."""
    broker = BrokerAddress("127.0.0.1", mosquitto.port)
    empty = Store(str(tmp_path / "city.db"))
    upkeep.backup(database_of(empty), str(tmp_path / "yesterday.db"))
    with Device(tmp_path / "bus", mosquitto.port, birth_seconds=0.5) as device:
        with city(empty, broker):
            device.board(30)
            until(device.drained)
            until(lambda: device.sync.status.pending == 0)
        empty.close()
        store = restored(tmp_path, "yesterday.db")
        with city(store, broker):
            until(lambda: store.event_count() == 30, seconds=asks.GRACE_MS / 1000 + 15)
        store.close()


def test_an_event_the_device_set_aside_itself_does_not_hold_the_rest_back(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    with (
        city(store, BrokerAddress("127.0.0.1", mosquitto.port)),
        Device(tmp_path / "bus", mosquitto.port) as device,
    ):
        device.board(2)
        device.journal.append(make_event(3, stop="x" * 70_000))  # over the limit of a batch
        device.board(2)
        until(device.drained)
        until(lambda: store.devices()[0].epochs.get(device.journal.epoch) == 5)
        assert (numbers(store), store.devices()[0].gaps) == ([1, 2, 4, 5], 1)
        assert device.journal.stats().quarantined == 1


def test_a_clock_found_after_the_ack_corrects_the_citys_events(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    with (
        city(store, BrokerAddress("127.0.0.1", mosquitto.port)),
        Device(tmp_path / "bus", mosquitto.port) as device,
    ):
        event = make_event(1)
        moment = Moment("boot-a", 5_000, 77, "unset", -1)
        device.journal.append(dataclasses.replace(event, moment=moment))
        until(device.drained)
        assert store.events()[0]["corrected_ms"] is None
        device.journal.correct(Moment("boot-a", 9_000, 1_790_000_009_000, "ntp", 20))
        until(lambda: store.events()[0]["corrected_ms"] == 1_790_000_005_000)


def test_a_cloned_journal_sets_its_name_aside_and_others_flow(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    with city(store, BrokerAddress("127.0.0.1", mosquitto.port)):
        with Device(tmp_path / "bus", mosquitto.port) as device:
            device.board(5)
            until(device.drained)
        shutil.copytree(tmp_path / "bus", tmp_path / "clone")
        with Device(tmp_path / "bus", mosquitto.port) as device:
            device.board(3)
            until(device.drained)
        with (
            Device(tmp_path / "clone", mosquitto.port) as clone,
            Device(tmp_path / "bus-2", mosquitto.port, name="bus-2") as sound,
        ):
            clone.journal.append(make_event(99))
            sound.board(10)
            until(sound.drained)
            until(lambda: clone.journal.stats().quarantined == 1)
        aside, other = store.devices()
        assert "copy" in aside.aside
        assert (aside.events, other.events, other.aside) == (8, 10, "")


def test_a_backend_that_answers_nonsense_is_counted_and_events_flow(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    nonsense = [
        *((topics.ACKS.of("bus-1"), payload) for payload in (b"", b"{}", b"[1]", b"\xff" * 40)),
        (topics.ACKS.of("bus-1"), b'{"epoch":"00","upto":9,"have":[],"nack":[],"server_time":1}'),
        *(
            (topics.COMMANDS.of("bus-1"), payload)
            for payload in (b"", b"{}", b'{"command":"wipe"}')
        ),
    ]
    with Device(tmp_path / "bus", mosquitto.port) as device:
        device.board(20)
        until(lambda: device.sync.status.in_flight > 0)
        shout(mosquitto.port, *nonsense)
        until(lambda: device.sync.status.rejected_messages == len(nonsense))
        assert (device.sync.status.acked, device.sync.status.connected) == (0, True)
        with city(store, BrokerAddress("127.0.0.1", mosquitto.port)):
            until(device.drained)
        assert numbers(store) == list(range(1, 21))


def test_a_device_that_talks_nonsense_is_counted_and_others_flow(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    with (
        city(store, BrokerAddress("127.0.0.1", mosquitto.port)) as service,
        Device(tmp_path / "bus", mosquitto.port) as device,
    ):
        until(lambda: service.ready)
        shout(
            mosquitto.port,
            (topics.EVENTS.of("bus-9"), b"["),
            (topics.EVENTS.of("bus-9"), b'[{"epoch":"e","seq":1}]'),
            (topics.EVENTS.of("bus-9"), b"x" * 70_000),
            (topics.STATE.of("bus-9"), b'{"online":7}'),
            ("kp1/bus-9/u/res", b'{"id":1}'),
        )
        device.board(20)
        until(device.drained)
        assert [row["code"] for row in upkeep.quarantine(database_of(store), "bus-9")] == [
            "bad_event"
        ]
        assert store.devices()[0].events == 20
