"""The whole line: journal, uplink, a real Mosquitto, the city's database, and the ack back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from agent.base.ports import Link
from agent.base.retry import Backoff
from agent.base.values import LinkEvent, Message
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress, build_city
from agent.cityos.service.loop import CityService
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.journal import Journal
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.link.uplink.uplink import UplinkLimits
from agent.protocol.topics import down_topics
from tests.certificates import Authority
from tests.events import make_event
from tests.mosquitto import Mosquitto
from tests.waiting import until

KEY = bytes(range(32))
Protocol = Literal["5", "3.1.1"]
both = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


class DeafLink:
    """A link that loses the first acks that come down."""

    def __init__(self, link: MqttLink, losses: list[int]) -> None:
        self._link = link
        self._losses = losses
        self.open, self.publish, self.close = link.open, link.publish, link.close

    @property
    def unanswered(self) -> int:
        return self._link.unanswered

    def turn(self, seconds: float) -> list[LinkEvent]:
        heard: list[LinkEvent] = []
        for event in self._link.turn(seconds):
            if isinstance(event, Message) and self._losses:
                self._losses.pop()
            else:
                heard.append(event)
        return heard


class Device:
    """A journal and its sync thread."""

    def __init__(
        self,
        folder: Path,
        port: int,
        protocol: Protocol = "5",
        *,
        name: str = "bus-1",
        lost_acks: int = 0,
        ack_timeout_seconds: float = 0.5,
        birth_seconds: float = 300.0,
        tls: Tls | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.losses = [0] * lost_acks
        self.journal = Journal(folder / "journal.db", KEY)
        self.state = SyncState(folder / "sync.json")

        def link(will: Message) -> Link:
            mqtt = MqttLink(
                "127.0.0.1",
                port,
                client_id=name,
                protocol=protocol,
                tls=tls,
                subscriptions=down_topics(name),
                will=will,
            )
            return DeafLink(mqtt, self.losses)

        self.sync = Supervisor(
            name,
            "0.1.0",
            journal=lambda: Journal(folder / "journal.db", KEY),
            link=link,
            state=self.state,
            backoff=Backoff(self.state, min_seconds=0.05, max_seconds=0.2),
            limits=UplinkLimits(batch_seconds=0.05, ack_timeout_seconds=ack_timeout_seconds),
            birth_seconds=birth_seconds,
        )

    def board(self, count: int) -> None:
        for number in range(count):
            self.journal.append(make_event(number))

    def __enter__(self) -> Device:
        self.sync.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.sync.stop()
        self.journal.close()

    def drained(self) -> bool:
        return not self.journal.pending(self.journal.epoch, 0, 1)


@contextmanager
def city(store: Store, broker: BrokerAddress, *, share: str = "") -> Iterator[CityService]:
    service = build_city(broker, store, share=share)
    service.start()
    try:
        yield service
    finally:
        assert service.stop()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(str(tmp_path / "city.db"))
    yield opened
    opened.close()


def numbers(store: Store) -> list[int]:
    return sorted(row["seq"] for row in store.events(limit=100_000))


@both
def test_each_event_arrives_once(
    tmp_path: Path, mosquitto: Mosquitto, store: Store, protocol: Protocol
) -> None:
    broker = BrokerAddress("127.0.0.1", mosquitto.port, protocol=protocol)
    with city(store, broker), Device(tmp_path / "bus", mosquitto.port, protocol) as device:
        device.board(250)
        until(device.drained)
        device.board(5)
        until(device.drained)
        assert numbers(store) == list(range(1, 256))
        until(lambda: device.sync.status.acked == 255)
        assert store.devices()[0].online
        (epoch, upto) = store.devices()[0].epochs.popitem()
        assert (epoch, upto) == (device.journal.epoch, 255)
    assert [event["person"] for event in store.events(limit=1)] == [make_event(4).person]


@both
def test_events_wait_while_the_broker_is_down(
    tmp_path: Path, mosquitto: Mosquitto, store: Store, protocol: Protocol
) -> None:
    broker = BrokerAddress("127.0.0.1", mosquitto.port, protocol=protocol)
    with (
        city(store, broker) as service,
        Device(tmp_path / "bus", mosquitto.port, protocol) as device,
    ):
        device.board(20)
        until(device.drained)
        mosquitto.kill()
        device.board(120)
        until(lambda: device.sync.status.pending == 120)
        assert not device.sync.status.connected
        assert "broker" in device.sync.status.reason
        mosquitto.start()
        until(device.drained)
        assert service.ready
        assert numbers(store) == list(range(1, 141))
        assert device.sync.status.reconnects >= 1


@both
def test_events_wait_while_the_city_is_down_though_the_broker_takes_them(
    tmp_path: Path, mosquitto: Mosquitto, store: Store, protocol: Protocol
) -> None:
    """The broker's PUBACK is no ack: it has nobody to give the events to and forgets them."""
    with Device(tmp_path / "bus", mosquitto.port, protocol) as device:
        device.board(130)
        until(lambda: device.sync.status.in_flight > 0)
        assert device.sync.status.acked == 0
        with city(store, BrokerAddress("127.0.0.1", mosquitto.port, protocol=protocol)):
            until(device.drained)
        assert numbers(store) == list(range(1, 131))


@both
def test_when_acks_are_lost_events_are_sent_again_and_committed_once(
    tmp_path: Path, mosquitto: Mosquitto, store: Store, protocol: Protocol
) -> None:
    broker = BrokerAddress("127.0.0.1", mosquitto.port, protocol=protocol)
    with (
        city(store, broker),
        Device(tmp_path / "bus", mosquitto.port, protocol, lost_acks=3) as device,
    ):
        device.board(150)
        until(device.drained)
        assert device.losses == []  # three were lost, so at least one batch went out twice
        assert numbers(store) == list(range(1, 151))


@both
def test_a_refused_event_is_quarantined_and_the_rest_flows(
    tmp_path: Path, mosquitto: Mosquitto, store: Store, protocol: Protocol
) -> None:
    broker = BrokerAddress("127.0.0.1", mosquitto.port, protocol=protocol)
    with city(store, broker), Device(tmp_path / "bus", mosquitto.port, protocol) as device:
        device.board(3)
        device.journal.append(dataclasses.replace(make_event(4), purpose="No such purpose"))
        device.board(3)
        until(device.drained)
        until(lambda: device.sync.status.quarantined == 1)
        assert numbers(store) == [1, 2, 3, 5, 6, 7]
        assert device.journal.stats().quarantined == 1
        row = store.devices()[0]
        assert (row.rejected, row.epochs[device.journal.epoch]) == (1, 7)


def test_a_device_that_is_refused_says_why_and_grows_more_patient(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker", anonymous=False) as broker:
        device = Device(tmp_path / "bus", broker.port)
        with device:
            device.board(2)
            until(lambda: device.state.failures >= 3)
            assert "refused: Not authorized" in device.sync.status.reason
            until(lambda: device.sync.status.pending == 2)
        assert SyncState(tmp_path / "bus" / "sync.json").failures >= 3


def test_over_tls_the_line_is_the_same(tmp_path: Path, store: Store) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.issue("broker")
    options = (
        f"cafile {authority.file}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    with Mosquitto(tmp_path / "broker", *options, anonymous=False) as broker:
        tls = Tls(authority.file, *authority.issue("city"))
        device_tls = Tls(authority.file, *authority.issue("bus-1"))
        with (
            city(store, BrokerAddress("127.0.0.1", broker.port, tls=tls)),
            Device(tmp_path / "bus", broker.port, tls=device_tls) as device,
        ):
            device.board(120)
            until(device.drained)
        assert numbers(store) == list(range(1, 121))


def test_two_workers_share_the_work_and_each_event_is_committed_once(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    other = Store(str(tmp_path / "city.db"))
    broker = BrokerAddress("127.0.0.1", mosquitto.port)
    with (
        city(store, broker, share="town") as one,
        city(other, broker, share="town") as two,
        Device(tmp_path / "bus", mosquitto.port) as device,
    ):
        until(lambda: one.ready and two.ready)
        device.board(600)
        until(device.drained)
        assert numbers(store) == list(range(1, 601))
    other.close()


def test_the_birth_is_kept_for_a_city_side_that_starts_later(
    tmp_path: Path, mosquitto: Mosquitto, store: Store
) -> None:
    with Device(tmp_path / "bus", mosquitto.port) as device:
        until(lambda: device.sync.status.connected)
        with city(store, BrokerAddress("127.0.0.1", mosquitto.port)):
            until(lambda: bool(store.devices()))
            assert (store.devices()[0].name, store.devices()[0].online) == ("bus-1", True)
            assert device.sync.stop()
            until(lambda: not store.devices()[0].online)
