"""The whole line over a real broker with mutual TLS: publish, fetch, erase, and nothing left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.base.audit import entries
from agent.base.values import LinkUp, Message
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress, build_city, build_galleries
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls, tls_context
from agent.protocol import topics
from agent.protocol.galleries.messages import Want, sign_want
from agent.protocol.galleries.records import key_of
from agent.protocol.signed import Signer
from tests.galleries.conftest import City, faces, noting, now_ms, seed_of
from tests.galleries.device import Device
from tests.provisioning.town import Town
from tests.waiting import LATE_SECONDS, until

pytestmark = pytest.mark.slow

ANNA = "resident-anna-5521"


class Online:
    """A scripted device with its connection."""

    def __init__(self, device: Device, tls: Tls, port: int) -> None:
        self.device = device
        self.link = MqttLink(
            "localhost",
            port,
            client_id=device.name,
            tls=tls,
            subscriptions=(f"kp1/{device.name}/d/#",),
        )
        self.link.open()

    def turn(self, seconds: float = 0.01) -> None:
        for event in self.link.turn(seconds):
            if isinstance(event, Message):
                self.device.receive(event)
            elif isinstance(event, LinkUp):
                self.device.hello()
        for message in self.device.out:
            self.link.publish(message.topic, message.payload)
        self.device.out = []


def turning(devices: list[Online], condition: Callable[[], bool]) -> None:
    """Let *devices* work until *condition*."""

    def turn() -> None:
        for device in devices:
            device.turn()

    until(condition, meanwhile=turn)


@pytest.fixture
def town(tmp_path: Path, mosquitto_program: str) -> Iterator[Town]:
    found = Town(tmp_path)
    found.broker.start("persistence true", f"persistence_location {tmp_path}/broker/")
    yield found
    found.broker.stop()
    found.registry.close()


@pytest.fixture
def city(town: Town, tmp_path: Path) -> Iterator[City]:
    (tmp_path / "city").mkdir()
    found = City(tmp_path / "city", str(tmp_path / "city/city.db"), town.authority)
    store = Store(found.database)
    office = replace(found.office, audit=town.audit, actor="")
    handler = build_galleries(
        replace(found.parts, office=office), lambda _pack, _templates, _values: 0.6
    )
    handler.start()
    broker = BrokerAddress("localhost", town.broker.port, tls=town.worker())
    service = build_city(broker, store, share="town", handlers=[handler])
    service.start()
    assert service.wait_ready(LATE_SECONDS)
    yield found
    assert service.stop()
    assert handler.stop()
    store.close()
    found.close()
    found.registry.close()


def online(city: City, town: Town, folder: Path, name: str, gallery: str = "bus") -> Online:
    tls = town.device(name, folder)
    town.registry.serve(name, gallery, noting)
    assert tls.certificate is not None
    assert tls.key is not None
    signer = Signer(tls.certificate.read_bytes(), tls.key.read_bytes())
    return Online(Device(name, gallery, signer, city.trust, now_ms()), tls, town.broker.port)


def test_publishing_and_withdrawing_reach_devices_within_seconds(
    city: City, town: Town, tmp_path: Path
) -> None:
    bus = [online(city, town, tmp_path, f"bus-{n}") for n in range(3)]
    hall = online(city, town, tmp_path, "hall-1", "hall")
    devices = [*bus, hall]
    city.enrol([f"p{n}" for n in range(50)], "bus", "hall")  # the city publishes by itself
    turning(devices, lambda: all(len(each.device.ids) == 50 for each in devices))
    city.withdraw("p7", "bus", now_ms())
    city.publish("bus")
    turning(bus, lambda: all("p7" not in each.device.ids for each in bus))
    assert "p7" in hall.device.ids
    # Whoever comes late gets the newest head from the broker and the rest from the city.
    late = online(city, town, tmp_path, "bus-9")
    turning([late], lambda: len(late.device.ids) == 49)
    for each in [*devices, late]:
        each.link.close()


def test_the_brokers_store_keeps_nothing_of_somebody_erased(
    city: City, town: Town, tmp_path: Path
) -> None:
    bus = online(city, town, tmp_path, "bus-1")
    city.enrol([ANNA], "bus", nickname="nickname-of-anna")
    city.enrol([f"p{n}" for n in range(10)])
    turning([bus], lambda: ANNA in bus.device.ids)
    assert bus.device.keys is not None
    old = bus.device.keys
    # A device with a lasting session goes away with bodies queued for it.
    sleeper(city, town, tmp_path)
    template = city.residents.own.apply(faces(2, seed_of(ANNA)))[0].astype("<f2").tobytes()[:64]
    wanted = (ANNA.encode(), b"nickname-of-anna", key_of(ANNA), template)
    receipt = city.erase(ANNA)
    city.publish("bus")
    turning([bus], lambda: ANNA not in bus.device.ids)
    assert bus.device.ids == {f"p{n}" for n in range(10)}
    town.broker.stop()  # writes its store
    stored = (tmp_path / "broker/mosquitto.db").read_bytes()
    # What was queued is in it, under a key that is gone: a search that could find her.
    assert b"kp1/bus-2/d/gal/body" in stored
    assert f'"key":"{old.key.hex()}","part"'.encode() in stored
    assert not any(value in stored for value in wanted)
    assert city.keys.content_of("bus", old.key) is None
    log = (tmp_path / "broker/mosquitto.log").read_bytes()
    assert not any(value in log for value in wanted)
    audit = (town.ca / "audit.jsonl").read_bytes()
    actions = [entry.action for entry in entries(town.ca / "audit.jsonl")]
    assert "gallery.published" in actions
    assert not any(value in audit for value in wanted)
    assert receipt
    bus.link.close()


def sleeper(city: City, town: Town, folder: Path) -> None:
    """A device with a session that lasts asks for everything and goes before it comes."""
    tls = town.device("bus-2", folder)
    town.registry.serve("bus-2", "bus", noting)
    assert tls.certificate is not None
    assert tls.key is not None
    signer = Signer(tls.certificate.read_bytes(), tls.key.read_bytes())
    release = city.library.latest("bus")
    assert release is not None
    numbers = tuple({key_of(person)[0] for person in (ANNA, *(f"p{n}" for n in range(10)))})
    want = Want("bus-2", "bus", release.epoch, release.version, "bucket", numbers=numbers)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bus-2", protocol=paho.MQTTv5)
    client.tls_set_context(tls_context(tls))
    lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
    lasting.SessionExpiryInterval = 3600
    done: list[int] = []
    client.on_connect = lambda c, *_: c.subscribe("kp1/bus-2/d/#", 1)
    client.on_subscribe = lambda *_: done.append(1)
    client.connect("localhost", town.broker.port, clean_start=True, properties=lasting)
    client.loop_start()
    until(lambda: done)
    sent = client.publish(topics.ASKS.of("bus-2"), sign_want(want, signer), qos=1)
    sent.wait_for_publish(LATE_SECONDS)
    client.disconnect()
    client.loop_stop()

    def queued() -> bool:
        """Whether the city has answered into the queue of who is away."""
        os.kill(town.broker.pid, signal.SIGUSR1)  # writes its store
        file = folder / "broker/mosquitto.db"
        return file.exists() and topics.BODY.of("bus-2").encode() in file.read_bytes()

    until(queued, what="a body in the broker's queue")
