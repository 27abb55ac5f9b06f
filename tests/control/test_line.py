"""Commands and settings over Mosquitto with the shipped rules: repeats, forgeries, restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent.base.retry import Backoff
from agent.base.values import LinkDown, LinkUp, Message, Standing
from agent.cityos.control.orders import Ordered
from agent.cityos.db.database import reading
from agent.cityos.db.schema import DEVICE
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress, build_city
from agent.cityos.service.loop import CityService
from agent.cityos.usecases import steering
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.journal import Journal
from agent.link.control.commanded import Commands, Ending
from agent.link.control.configuration import Configuration
from agent.link.control.steering import Steering
from agent.link.control.trustedtime import TrustedTime
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.link.uplink.uplink import UplinkLimits
from agent.protocol import topics
from agent.protocol.commands import Replay
from agent.protocol.control import Command, Config, sign_command, sign_config
from agent.protocol.signed import Trust
from agent.protocol.topics import down_topics
from tests.cityos.database import database_of
from tests.events import make_event
from tests.journal.events import KEY
from tests.protocol.town import unsigned
from tests.provisioning.town import Town, now_ms, outcome, town
from tests.waiting import until

__all__ = ["town"]  # a fixture

pytestmark = pytest.mark.slow

NAME = "bus-1"


class Device:
    """Journal, sync thread and duties, wired as the agent does, with state that stays."""

    def __init__(self, folder: Path, town: Town) -> None:
        self.folder = folder
        self.town = town
        self.tls = town.device(NAME, folder)
        self.settings = folder / "settings.toml"
        self.settings.write_text(f'[state]\ndirectory = "{folder}/state"\n')
        (folder / "state").mkdir(exist_ok=True)
        self.done: list[str] = []
        self.trust = Trust((town.ca / "ca.pem").read_bytes())

    @contextmanager
    def running(self) -> Iterator[Supervisor]:
        """Until the block ends, as a process would."""
        state = SyncState(self.folder / "sync.json")
        self.steering = Steering(self.settings)
        self.steering.begin()
        self.steering.came_up()
        time = TrustedTime()
        commands = Commands(
            NAME,
            state,
            trust=lambda: self.trust,
            time=time,
            handlers={"status": self._status, "revoke-now": self._revoke},
            endings={"restart": Ending(lambda: [], lambda: self.done.append("restart"))},
        )
        configuration = Configuration(
            NAME,
            self.steering,
            trust=lambda: self.trust,
            time=time,
            reload=lambda: self.done.append("reload"),
        )

        def link(will: Message) -> MqttLink:
            return MqttLink(
                "localhost",
                self.town.broker.port,
                client_id=NAME,
                tls=self.tls,
                subscriptions=[*down_topics(NAME), *configuration.topics],
                will=will,
            )

        sync = Supervisor(
            NAME,
            "test",
            journal=self.journal,
            link=link,
            state=state,
            backoff=Backoff(state, min_seconds=0.05, max_seconds=0.2),
            limits=UplinkLimits(batch_seconds=0.05),
            commands=commands,
            duties=[configuration],
            standing=lambda: Standing(settings_version=self.steering.report().settings_version),
        )
        sync.start()
        try:
            yield sync
        finally:
            assert sync.stop()

    def journal(self) -> Journal:
        return Journal(self.folder / "journal.db", KEY)

    def _status(self, _: Mapping[str, Any]) -> Mapping[str, Any]:
        self.done.append("status")
        return {"state": "ready"}

    def _revoke(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        self.done.append(f"revoke {arguments['key'].hex()}")
        return {"found": True}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(str(tmp_path / "city.db"))) as opened:
        yield opened


def worker(town: Town, name: str) -> Tls:
    """Each has a certificate of its own: by its name the broker knows it."""
    stem = town.ca / "workers" / name
    if not stem.with_suffix(".pem").exists():
        certificate, key = town.authority.issue_worker(name)
        stem.with_suffix(".pem").write_bytes(certificate)
        stem.with_suffix(".key").write_bytes(key)
        assert town.publish() == []
    return Tls(town.ca / "ca.pem", stem.with_suffix(".pem"), stem.with_suffix(".key"))


@contextmanager
def city(town: Town, store: Store, share: str = "", name: str = "city-1") -> Iterator[CityService]:
    broker = BrokerAddress("localhost", town.broker.port, tls=worker(town, name))
    service = build_city(broker, store, share=share, signer=town.authority.signer("command"))
    service.start()
    try:
        yield service
    finally:
        assert service.stop()


@pytest.fixture
def device(tmp_path: Path, town: Town) -> Device:
    return Device(tmp_path / "device", town)


class Forger:
    """Somebody with a worker's place at the broker, who can say anything but sign nothing."""

    def __init__(self, town: Town) -> None:
        self._link = MqttLink(
            "localhost", town.broker.port, client_id="city-9", tls=worker(town, "city-9")
        )
        assert isinstance(outcome(self._link), LinkUp)

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._link.publish(topic, payload, retain=retain)
        until(self._taken)

    def _taken(self) -> bool:
        ended = [event for event in self._link.turn(0.02) if isinstance(event, LinkDown)]
        assert not ended, ended
        return not self._link.unanswered

    def close(self) -> None:
        self._link.close()


@pytest.fixture
def forger(town: Town) -> Iterator[Forger]:
    with closing(Forger(town)) as found:
        yield found


def settings_in_birth(store: Store) -> int:
    with reading(store.engine) as db:
        told = json.loads(db.execute(select(DEVICE.c.birth)).scalar_one())
    return int(told["settings_version"])


def answered(store: Store, name: str) -> Ordered:
    def settled() -> bool:
        found = steering.command(database_of(store), name)
        return found is not None and found.answered_ms is not None

    until(settled)
    found = steering.command(database_of(store), name)
    assert found is not None
    return found


def test_commands_reach_a_device_once_whichever_worker_sends_them(
    town: Town, device: Device, store: Store
) -> None:
    with city(town, store, "town"), city(town, store, "town", "city-2"), device.running():
        until(lambda: store.devices() and store.devices()[0].online)
        names = [steering.send(database_of(store), NAME, "status", {}, now_ms()) for _ in range(3)]
        assert {answered(store, name).state for name in names} == {"done"}
        assert answered(store, names[0]).detail == {"state": "ready"}
        assert device.done == ["status"] * 3


def test_what_a_repeating_or_forging_broker_says_changes_nothing(
    town: Town, device: Device, forger: Forger, tmp_path: Path
) -> None:
    signer = town.authority.signer("command")
    key = "ab" * 32

    def signed(**changes: Any) -> bytes:
        told: dict[str, Any] = {
            **{"device": NAME, "id": "c1", "counter": 1, "issued_ms": now_ms()},
            **{"ttl_seconds": 60, "command": "revoke-now", "arguments": {"key": key}},
        }
        return sign_command(Command(**(told | changes)), signer)

    revoke, restart = signed(), signed(id="c2", counter=2, command="restart", arguments={})
    # Without the city's word on the time a restart would not be done: an ack brings it.
    ack = b'{"epoch":"%s","upto":0,"have":[],"nack":[],"server_time":%d}'
    with device.journal() as journal:
        epoch = journal.epoch
    told_time = ack % (epoch.encode(), now_ms())
    with device.running() as sync:
        until(lambda: sync.status.connected)
        forger.say(f"kp1/{NAME}/d/ack", told_time)
        for payload in (revoke, revoke, restart, restart):
            forger.say(topics.COMMANDS.of(NAME), payload)
        until(lambda: len(device.done) == 2)
    for _ in range(2):  # two restarts of the device, the broker still at it
        with device.running() as sync:
            until(lambda: sync.status.connected)
            forger.say(f"kp1/{NAME}/d/ack", told_time)
            for payload in (
                *(revoke, restart),
                signed(device="bus-2", id="c3"),
                signed(id="c4", issued_ms=now_ms() - 120_000),
                signed(id="c5")[:-8],
                unsigned("c6", Replay(epoch, 1, 1)),
                b"\xff" * 70_000,
            ):
                forger.say(topics.COMMANDS.of(NAME), payload)
            forger.say(topics.COMMANDS.of(NAME), signed(id="last", command="ping", arguments={}))
            until(lambda: sync.status.rejected_messages == 4)
            assert sync.status.duty_failures == 0
    assert device.done == [f"revoke {key}", "restart"]


def test_settings_go_down_once_and_the_birth_says_which_are_in_force(
    town: Town, device: Device, store: Store, forger: Forger
) -> None:
    with city(town, store):
        with device.running():
            until(lambda: store.devices() and store.devices()[0].online)
            steering.set_settings(database_of(store), NAME, {"vision": {"max_faces": 5}}, now_ms())
            until(lambda: device.done == ["reload"])
        # It was off meanwhile: what the broker kept is what it has already.
        with device.running() as sync:
            until(lambda: steering.settings_of(database_of(store), NAME)[0].state == "accepted")
            assert device.steering.settings.vision.max_faces == 5
            until(lambda: settings_in_birth(store) == 1)
            signer = town.authority.signer("command")
            stale = Config(NAME, 9, 0, {"vision": {"max_faces": 4}})
            forger.say(topics.CONFIG.of(NAME), sign_config(stale, signer), retain=True)
            until(lambda: device.steering.report().refused_version == 9)
            older = Config(NAME, 2, 1, {"vision": {"max_faces": 3}})
            foreign = Config("bus-2", 10, 1, {"vision": {"max_faces": 3}})
            for payload in (b"{}", sign_config(older, signer), sign_config(foreign, signer)):
                forger.say(topics.CONFIG.of(NAME), payload)
            until(lambda: sync.status.rejected_messages == 3)
            assert device.steering.report().settings_version == 1
    assert device.done == ["reload"]


def test_a_provisioned_devices_losses_are_asked_for_with_a_signature(
    town: Town, device: Device, store: Store
) -> None:
    with device.journal() as journal:
        for number in range(30):
            journal.append(make_event(number))
    with city(town, store), device.running() as sync:
        until(lambda: sync.status.acked == 30)
    # The city lost its database.
    with (
        closing(Store(str(device.folder / "second.db"))) as second,
        city(town, second),
        device.running() as sync,
    ):
        until(lambda: second.event_count() == 30)
        assert sync.status.replayed == 30
        assert sync.status.rejected_messages == 0
