"""The MQTT link against a real Mosquitto, and against brokers that misbehave."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from agent.base.errors import LinkError
from agent.base.values import LinkDown, LinkEvent, LinkUp, Message
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.lab.broker import LabBroker
from agent.sim.net.mosquitto import free_port
from tests.certificates import Authority
from tests.mosquitto import Mosquitto
from tests.waiting import LATE_SECONDS, returns, until

Protocol = Literal["5", "3.1.1"]
both = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@contextmanager
def opened(port: int, *, client_id: str = "bus-1", **options: object) -> Iterator[MqttLink]:
    link = MqttLink("127.0.0.1", port, client_id=client_id, **options)  # type: ignore[arg-type]
    link.open()
    try:
        yield link
    finally:
        link.close()


def turn_until(link: MqttLink, enough: Callable[[list[LinkEvent]], bool]) -> list[LinkEvent]:
    events: list[LinkEvent] = []
    until(lambda: enough(events), meanwhile=lambda: events.extend(link.turn(0.1)))
    return events


def first(link: MqttLink) -> LinkEvent:
    return turn_until(link, bool)[0]


def reason(link: MqttLink) -> str:
    event = first(link)
    assert isinstance(event, LinkDown)
    return event.reason


@pytest.mark.parametrize("secured", [False, True])
def test_a_batch_never_waits_in_the_kernel_for_the_one_before_it(
    tmp_path: Path, secured: bool
) -> None:
    """Left to itself TCP holds a small packet back until the last one is confirmed: 40 ms each."""
    with LabBroker(tmp_path, tls=secured) as broker:
        tls = Tls(broker.authority) if broker.authority else None
        with opened(broker.port, tls=tls) as link:
            assert isinstance(first(link), LinkUp)
            assert link._client is not None
            sock = link._client.socket()
            assert isinstance(sock, socket.socket)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@both
def test_what_is_published_arrives_whole_and_in_order(
    mosquitto: Mosquitto, protocol: Protocol
) -> None:
    """200 messages, one of 60 KB, while the broker takes 20 at a time."""
    sent = [Message("kp1/bus-1/u/ev", b"%d" % n) for n in range(200)]
    sent[100] = Message("kp1/bus-1/u/ev", bytes(60_000))
    with (
        opened(
            mosquitto.port, client_id="city", protocol=protocol, subscriptions=["kp1/+/u/ev"]
        ) as city,
        opened(mosquitto.port, protocol=protocol) as device,
    ):
        assert first(city) == LinkUp()
        assert first(device) == LinkUp()
        for message in sent:
            device.publish(message.topic, message.payload)
        received: list[LinkEvent] = []

        def turn() -> None:
            device.turn(0.0)
            received.extend(city.turn(0.01))

        until(lambda: len(received) >= 200, meanwhile=turn)
        assert received == sent


@both
def test_the_will_is_published_when_the_device_vanishes_and_not_when_it_says_goodbye(
    mosquitto: Mosquitto, protocol: Protocol
) -> None:
    will = Message("kp1/bus-1/u/st", b'{"online":false}')
    with opened(
        mosquitto.port, client_id="city", protocol=protocol, subscriptions=["kp1/+/u/st"]
    ) as city:
        assert first(city) == LinkUp()
        polite = MqttLink("127.0.0.1", mosquitto.port, client_id="a", protocol=protocol, will=will)
        polite.open()
        assert first(polite) == LinkUp()
        polite.close()
        assert city.turn(0.2) == []
        with opened(mosquitto.port, protocol=protocol, will=will) as device:
            assert first(device) == LinkUp()
            with opened(mosquitto.port, protocol=protocol) as twin:  # takes the name over
                assert first(twin) == LinkUp()
                assert first(city) == will
                assert isinstance(first(device), LinkDown)


@both
def test_a_retained_message_is_there_for_who_comes_later_and_known_as_one(
    mosquitto: Mosquitto, protocol: Protocol
) -> None:
    with opened(mosquitto.port, protocol=protocol) as device:
        assert first(device) == LinkUp()
        device.publish("kp1/bus-1/u/st", b"birth", retain=True)
        device.turn(0.2)
    with opened(
        mosquitto.port, client_id="city", protocol=protocol, subscriptions=["kp1/+/u/st"]
    ) as city:
        events = turn_until(city, lambda seen: len(seen) == 2)
    assert events == [LinkUp(), Message("kp1/bus-1/u/st", b"birth", retain=True)]


@both
def test_a_broker_that_dies_is_a_clear_loss_and_the_link_opens_again(
    mosquitto: Mosquitto, protocol: Protocol
) -> None:
    with opened(mosquitto.port, protocol=protocol) as link:
        assert first(link) == LinkUp()
        mosquitto.kill()
        assert "connection lost" in reason(link)
        with pytest.raises(LinkError, match="not connected"):
            link.publish("kp1/bus-1/u/ev", b"x")
        link.open()
        assert "cannot connect" in reason(link)
        mosquitto.start()
        link.open()
        assert first(link) == LinkUp()


@both
def test_a_refused_password_names_what_to_check(tmp_path: Path, protocol: Protocol) -> None:
    passwords = tmp_path / "passwords"
    program = "mosquitto_passwd"
    subprocess.run([program, "-b", "-c", str(passwords), "bus-1", "right"], check=True)
    options = (f"password_file {passwords}",)
    with Mosquitto(tmp_path / "broker", *options, anonymous=False) as broker:
        with opened(broker.port, protocol=protocol, username="bus-1", password="wrong") as link:
            refusal = reason(link)
            assert "refused: Not authorized" in refusal
            assert "password" in refusal
            assert "wrong" not in refusal
        with opened(broker.port, protocol=protocol, username="bus-1", password="right") as link:
            assert first(link) == LinkUp()


def test_a_refused_subscription_is_a_loss_and_not_silence(tmp_path: Path) -> None:
    """Mosquitto says so for MQTT 5 by refusing the subscription in its answer."""
    refusing = FakeBroker(connack=b"\x20\x03\x00\x00\x00", suback=b"\x90\x04%s\x00\x87")
    with refusing, opened(refusing.port, subscriptions=["kp1/bus-1/d/ack"]) as link:
        assert "subscription to kp1/bus-1/d/ack refused: Not authorized" in reason(link)


def test_tls_with_an_own_authority_works_and_another_one_is_named(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    certificate, key = authority.issue("broker")
    options = (
        f"cafile {authority.file}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    mine = authority.issue("bus-1")
    with Mosquitto(tmp_path / "broker", *options, anonymous=False) as broker:
        with opened(broker.port, tls=Tls(authority.file, *mine), subscriptions=["a"]) as link:
            assert first(link) == LinkUp()
            link.publish("a", bytes(100_000))
            assert first(link) == Message("a", bytes(100_000))
        with opened(broker.port, tls=Tls(stranger.file, *mine)) as link:
            assert "certificate is not trusted" in reason(link)
        with opened(broker.port, tls=Tls(authority.file)) as link:
            assert "certificate" in reason(link)
        with opened(broker.port, tls=Tls(authority.file, *stranger.issue("bus-1"))) as link:
            # What the broker says of it, and not only that it hung up.
            assert "no TLS: TLSV1_ALERT_UNKNOWN_CA" in reason(link)
        with opened(broker.port) as link:
            assert "closed before it was accepted" in reason(link)


def test_tls_files_that_cannot_work_are_named_at_once(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    for tls, named in (
        (Tls(tmp_path / "none.pem"), "none.pem"),
        (Tls(empty), "empty.pem"),
        (Tls(None, empty, empty), "empty.pem"),
        (Tls(None, empty, None), "needed together"),
    ):
        with pytest.raises(LinkError, match=named):
            MqttLink("127.0.0.1", 1, client_id="bus-1", tls=tls).open()


def test_nobody_listening_and_no_such_name_are_told_apart() -> None:
    with opened(free_port()) as link:
        assert "cannot connect: Connection refused" in reason(link)
    link = MqttLink("no-such-host.invalid", 1883, client_id="bus-1")
    link.open()
    assert "name cannot be resolved" in reason(link)


class FakeBroker:
    """Takes one connection after another, answers with given bytes, or not at all."""

    def __init__(self, connack: bytes = b"", suback: bytes = b"", *, hang_up: bool = False) -> None:
        self._connack, self._suback, self._hang_up = connack, suback, hang_up
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.packets: list[bytes] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(0.02)
        with connection:
            self.packets.append(connection.recv(4096))
            if self._connack:
                connection.sendall(self._connack)
            while not self._done.is_set() and not self._hang_up:
                try:
                    packet = connection.recv(65_536)
                except TimeoutError:
                    continue
                self.packets.append(packet)
                if not packet:
                    return
                if packet[0] == 0x82 and self._suback:
                    connection.sendall(self._suback % packet[2:4])

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(LATE_SECONDS)
        self._listener.close()


@pytest.mark.parametrize(
    ("protocol", "connack", "said"),
    [
        ("5", b"\x20\x03\x00\x87\x00", "refused: Not authorized"),
        ("5", b"\x20\x03\x00\x85\x00", "device's name"),
        ("5", b"\x20\x03\x00\x84\x00", "does not speak MQTT 5"),
        ("5", b"\x20\x02\x00\x01", "does not speak MQTT 5"),  # as a broker of MQTT 3 answers
        ("5", b"\x20\x03\x00\x97\x00", "refused: Quota exceeded"),
        ("3.1.1", b"\x20\x02\x00\x01", "speaks MQTT 3.1.1"),
        ("3.1.1", b"\x20\x02\x00\x02", "device's name"),
        ("3.1.1", b"\x20\x02\x00\x04", "password"),
        ("3.1.1", b"\x20\x02\x00\x05", "refused: Not authorized"),
    ],
)
def test_every_refusal_is_a_loss_with_its_reason(
    protocol: Protocol, connack: bytes, said: str
) -> None:
    with FakeBroker(connack) as broker, opened(broker.port, protocol=protocol) as link:
        assert said in reason(link)
        assert link.turn(0.0) == []
        with pytest.raises(LinkError):
            link.publish("a", b"")


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x20\x03\x00",
        b"\x00" * 50,
        b"\x20\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_no_broker_at_all_is_a_loss_and_never_an_exception(garbage: bytes) -> None:
    with FakeBroker(garbage, hang_up=True) as broker, opened(broker.port) as link:
        assert isinstance(first(link), LinkDown)


def test_a_broker_that_never_answers_is_given_up() -> None:
    with FakeBroker() as broker, opened(broker.port, connect_seconds=0.1) as link:
        assert "no answer within" in reason(link)


def test_a_smaller_receive_maximum_is_honoured_though_paho_does_not() -> None:
    """Receive Maximum 2, and no PUBACK ever: two messages leave, the rest waits, then no more."""
    connack = b"\x20\x06\x00\x00\x03\x21" + struct.pack("!H", 2)
    with FakeBroker(connack) as broker, opened(broker.port, max_queued_messages=5) as link:
        assert first(link) == LinkUp()
        for _ in range(7):
            link.publish("a", b"payload")
        with pytest.raises(LinkError, match="waiting"):
            link.publish("a", b"payload")
        until(lambda: b"".join(broker.packets).count(b"payload") == 2)
        link.turn(0.2)
        assert b"".join(broker.packets).count(b"payload") == 2


def test_a_message_beyond_the_brokers_maximum_packet_size_is_refused_with_the_setting() -> None:
    """The broker would only hang up, and so it would go on for ever."""
    connack = b"\x20\x08\x00\x00\x05\x27" + struct.pack("!I", 1_000)
    with FakeBroker(connack) as broker, opened(broker.port) as link:
        assert first(link) == LinkUp()
        link.publish("a", bytes(900))
        with pytest.raises(LinkError, match=r"lower sync\.batch_bytes"):
            link.publish("a", bytes(1_000))


@pytest.mark.slow
def test_a_hanging_broker_is_noticed_by_keep_alive() -> None:
    connack = b"\x20\x03\x00\x00\x00"
    with FakeBroker(connack) as broker, opened(broker.port, keepalive_seconds=1) as link:
        assert turn_until(link, lambda seen: len(seen) == 2)[0] == LinkUp()


def test_a_turn_returns_in_time_when_nothing_happens(mosquitto: Mosquitto) -> None:
    with opened(mosquitto.port) as link:
        assert first(link) == LinkUp()
        began = time.monotonic()
        assert returns(lambda: link.turn(0.1)) == []
        assert time.monotonic() - began > 0.05


def test_closing_twice_or_unopened_is_safe(mosquitto: Mosquitto) -> None:
    link = MqttLink("127.0.0.1", mosquitto.port, client_id="bus-1")
    link.close()
    link.open()
    link.close()
    link.close()
    assert link.turn(0.0) == []


def test_no_thread_is_ever_started(mosquitto: Mosquitto) -> None:
    before = set(threading.enumerate())
    with opened(mosquitto.port, subscriptions=["a"]) as link:
        assert first(link) == LinkUp()
        link.publish("a", b"x")
        assert first(link) == Message("a", b"x")
        assert set(threading.enumerate()) == before
