"""The broker in memory behaves as Mosquitto does, seen through a link to either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from agent.base.errors import LinkError
from agent.base.ports import Link
from agent.base.values import LinkDown, LinkEvent, LinkUp, Message
from agent.hw.net.mqtt import MqttLink
from agent.sim.net.link import MemoryBroker, covers
from tests.mosquitto import Mosquitto
from tests.waiting import until

TOPIC = "kp1/bus-1/u/st"


class Network(Protocol):
    """A broker, and links to it."""

    def link(
        self, client_id: str, subscriptions: list[str] | None = None, will: Message | None = None
    ) -> Link: ...

    def stop(self) -> None: ...

    def start(self) -> None: ...


class Real:
    def __init__(self, broker: Mosquitto) -> None:
        self._broker = broker

    def link(
        self, client_id: str, subscriptions: list[str] | None = None, will: Message | None = None
    ) -> Link:
        return MqttLink(
            "127.0.0.1",
            self._broker.port,
            client_id=client_id,
            subscriptions=subscriptions or [],
            will=will,
        )

    def stop(self) -> None:
        self._broker.kill()

    def start(self) -> None:
        self._broker.start()


class Memory:
    def __init__(self) -> None:
        self._broker = MemoryBroker()

    def link(
        self, client_id: str, subscriptions: list[str] | None = None, will: Message | None = None
    ) -> Link:
        return self._broker.link(client_id, subscriptions or [], will)

    def stop(self) -> None:
        self._broker.stop()

    def start(self) -> None:
        self._broker.start()


@pytest.fixture(params=["memory", "mosquitto"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Network]:
    if request.param == "memory":
        yield Memory()
        return
    with Mosquitto(tmp_path / "broker") as broker:
        yield Real(broker)


def heard(link: Link, enough: Callable[[list[LinkEvent]], bool] = bool) -> list[LinkEvent]:
    events: list[LinkEvent] = []
    until(lambda: enough(events), meanwhile=lambda: events.extend(link.turn(0.1)))
    return events


def connected(link: Link) -> Link:
    link.open()
    assert heard(link)[0] == LinkUp()
    return link


def test_messages_arrive_whole_and_in_order_and_none_is_left_unanswered(network: Network) -> None:
    city = connected(network.link("city", ["kp1/+/u/#"]))
    device = connected(network.link("bus-1"))
    sent = [Message(f"kp1/bus-1/u/{n % 3}", b"%d" % n) for n in range(50)]
    for message in sent:
        device.publish(message.topic, message.payload)
    assert device.unanswered > 0
    heard(device, lambda _: device.unanswered == 0)
    assert heard(city, lambda events: len(events) >= 50) == sent
    device.publish("kp2/bus-1/u/ev", b"nobody listens")
    device.publish("kp1/bus-1/u/last", b"")
    heard(device, lambda _: device.unanswered == 0)
    assert heard(city) == [Message("kp1/bus-1/u/last", b"")]


def test_a_will_follows_a_loss_and_not_a_goodbye(network: Network) -> None:
    will = Message(TOPIC, b"gone")
    city = connected(network.link("city", [TOPIC]))
    connected(network.link("bus-2", will=will)).close()
    device = connected(network.link("bus-1", will=will))
    connected(network.link("bus-1"))  # takes the name over
    assert isinstance(heard(device)[0], LinkDown)
    assert heard(city) == [will]
    with pytest.raises(LinkError, match="not connected"):
        device.publish(TOPIC, b"x")


def test_what_is_retained_is_there_for_who_comes_later_until_it_is_emptied(
    network: Network,
) -> None:
    device = connected(network.link("bus-1"))
    device.publish(TOPIC, b"birth", retain=True)
    heard(device, lambda _: device.unanswered == 0)
    city = network.link("city", [TOPIC])
    city.open()
    events = heard(city, lambda seen: len(seen) == 2)
    assert events == [LinkUp(), Message(TOPIC, b"birth", retain=True)]
    device.publish(TOPIC, b"", retain=True)
    assert heard(city) == [Message(TOPIC, b"")]
    late = connected(network.link("late", [TOPIC, "end"]))
    device.publish("end", b"")
    assert heard(late) == [Message("end", b"")]


def test_a_broker_that_dies_is_a_loss_and_the_link_opens_again(network: Network) -> None:
    link = connected(network.link("bus-1"))
    network.stop()
    (lost,) = heard(link)
    assert isinstance(lost, LinkDown)
    assert "connection lost" in lost.reason
    with pytest.raises(LinkError, match="not connected"):
        link.publish(TOPIC, b"x")
    link.open()
    (refused,) = heard(link)
    assert isinstance(refused, LinkDown)
    assert "cannot connect" in refused.reason
    network.start()
    connected(link).close()
    link.close()


def test_a_cut_cable_is_a_loss_for_the_link_and_a_will_for_others() -> None:
    broker = MemoryBroker()
    will = Message(TOPIC, b"gone")
    city, device = broker.link("city", [TOPIC]), broker.link("bus-1", will=will)
    connected(city)
    connected(device)
    device.vanish()
    assert isinstance(heard(device)[0], LinkDown)
    assert heard(city) == [will]


@pytest.mark.parametrize(
    ("pattern", "topic", "covered"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("+/b/#", "x/b/c", True),
        ("#", "a/b", True),
        ("a/+/c", "a/b/d", False),
    ],
)
def test_subscriptions_cover_what_mqtt_says(pattern: str, topic: str, covered: bool) -> None:
    assert covers(pattern, topic) is covered
