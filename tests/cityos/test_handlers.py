"""The city's loop hands each message to whoever listens on its topic, and publishes the answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent.base.values import LinkUp, Message
from agent.cityos.events.store import Store
from agent.cityos.service.app import BrokerAddress, build_city
from agent.cityos.service.loop import subscriptions
from agent.hw.net.mqtt import MqttLink
from agent.protocol.topics import ASKS
from tests.mosquitto import Mosquitto
from tests.waiting import LATE_SECONDS, until


class Echo:
    """Answers what comes on u/gal, and has three messages due once somebody spoke."""

    topics = (ASKS,)

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self._due: list[Message] = []

    def take(self, messages: Sequence[Message], now_ms: int) -> list[Message]:
        self.heard += messages
        self._due = [Message("kp1/bus-1/d/gal/head", b"head %d" % n, retain=True) for n in range(3)]
        return [Message("kp1/bus-1/d/gal/now", message.payload) for message in messages]

    def due(self, now_ms: int) -> list[Message]:
        return [self._due.pop(0)] if self._due else []


def test_workers_of_one_share_divide_what_handlers_listen_to() -> None:
    assert subscriptions("town", [Echo()]) == (
        "$share/town/kp1/+/u/ev",
        "$share/town/kp1/+/u/res",
        "$share/town/kp1/+/u/gal",
        "kp1/+/u/st",
        "kp1/+/u/rep",
    )


class Listener:
    """A device's link, connected, and every message it has received."""

    def __init__(self, port: int, *topics: str) -> None:
        self.link = MqttLink("127.0.0.1", port, client_id="bus-1", subscriptions=topics)
        self._events: list[object] = []
        self.link.open()
        until(lambda: LinkUp() in self._turn(), what="the link")

    def heard(self, wanted: int) -> list[bytes]:
        until(lambda: len(self._messages(self._turn())) >= wanted, what=f"{wanted} messages")
        return [message.payload for message in self._messages(self._events)]

    def _turn(self) -> list[object]:
        self._events += self.link.turn(0.05)
        return self._events

    @staticmethod
    def _messages(events: list[object]) -> list[Message]:
        return [event for event in events if isinstance(event, Message)]


def test_a_handler_gets_its_topic_and_its_answers_are_published(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    store, echo = Store(str(tmp_path / "city.db")), Echo()
    service = build_city(BrokerAddress("127.0.0.1", mosquitto.port), store, handlers=[echo])
    service.start()
    try:
        assert service.wait_ready(LATE_SECONDS)
        device = Listener(mosquitto.port, "kp1/bus-1/d/#")
        device.link.publish("kp1/bus-1/u/gal", b"hello")
        device.link.publish("kp1/bus-1/u/ev", b"nonsense")  # the intake's
        assert device.heard(4) == [b"hello", b"head 0", b"head 1", b"head 2"]
        device.link.close()
        until(lambda: service.status.refused_messages == 1)
        assert [message.payload for message in echo.heard] == [b"hello"]
        # Only what asked for it is kept by the broker for whoever comes later.
        late = Listener(mosquitto.port, "kp1/bus-1/d/gal/#")
        assert late.heard(1) == [b"head 2"]
        late.link.close()
    finally:
        assert service.stop()
        store.close()


def test_a_handler_that_fails_does_not_end_the_intake(
    tmp_path: Path, mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Echo):
        def take(self, messages: Sequence[Message], now_ms: int) -> list[Message]:
            raise RuntimeError("a defect")

    store = Store(str(tmp_path / "city.db"))
    service = build_city(BrokerAddress("127.0.0.1", mosquitto.port), store, handlers=[Broken()])
    service.start()
    try:
        assert service.wait_ready(LATE_SECONDS)
        device = Listener(mosquitto.port, "kp1/bus-1/d/#")
        device.link.publish("kp1/bus-1/u/gal", b"hello")
        until(lambda: "defect" in service.trouble)
        until(lambda: service.ready and not service.trouble)
        device.link.close()
    finally:
        assert service.stop()
        store.close()
    assert "a defect" in caplog.text
