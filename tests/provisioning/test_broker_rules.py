"""The shipped Mosquitto configuration, attacked on a real Mosquitto."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.values import LinkDown, Message
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls, tls_context
from agent.keys.certificates import read_identity
from tests.provisioning.town import Town, now_ms, outcome, town
from tests.waiting import LATE_SECONDS, until

__all__ = ["town"]  # a fixture


class Client:
    """One client of the town's broker, turned by hand."""

    def __init__(self, town: Town, tls: Tls | None, client_id: str, **options: object) -> None:
        self.link = MqttLink(
            "localhost",
            town.broker.port,
            client_id=client_id,
            tls=tls,
            **options,  # type: ignore[arg-type]
        )
        self.messages: list[Message] = []
        self.ended: LinkDown | None = None
        found = outcome(self.link)
        self.ended = found if isinstance(found, LinkDown) else None

    def turn(self) -> None:
        for event in self.link.turn(0.02):
            if isinstance(event, Message):
                self.messages.append(event)
            elif isinstance(event, LinkDown):
                self.ended = event


class Clients:
    """The city's worker and two devices, and whoever else comes."""

    def __init__(self, town: Town, folder: Path) -> None:
        self.town = town
        self.one = town.device("bus-1", folder)
        self.two = town.device("bus-2", folder)
        self.opened: list[Client] = []
        self.city = self.open(town.worker(), "kaopass-city-1", subscriptions=["kp1/+/u/#"])

    def open(self, tls: Tls | None, client_id: str, **options: object) -> Client:
        client = Client(self.town, tls, client_id, **options)
        self.opened.append(client)
        return client

    def settle(self, sender: Client) -> list[tuple[str, bytes]]:
        """What the city has heard once a message of its own, sent last, has come round."""
        until(self.answered, what="the broker's answers to everything before")
        marker = str(time.monotonic_ns()).encode()
        sender.link.publish(f"kp1/{self.name_of(sender)}/u/st", marker)
        until(lambda: any(m.payload == marker for m in self.city.messages), meanwhile=self.turn)
        self.turn()  # the broker has written to everybody by now
        return [(m.topic, m.payload) for m in self.city.messages if m.payload != marker]

    def turn(self) -> None:
        for client in self.opened:
            if client.ended is None:
                client.turn()

    def answered(self) -> bool:
        self.turn()
        return not any(c.link._unanswered for c in self.opened if c.ended is None)

    def name_of(self, client: Client) -> str:
        return client.link._client_id


@pytest.fixture
def clients(town: Town, tmp_path: Path) -> Iterator[Clients]:
    found = Clients(town, tmp_path / "devices")
    yield found
    for client in found.opened:
        client.link.close()


def test_a_device_reaches_the_city_and_the_city_that_device_alone(clients: Clients) -> None:
    one = clients.open(clients.one, "bus-1", subscriptions=["kp1/bus-1/d/#"])
    two = clients.open(clients.two, "bus-2", subscriptions=["kp1/bus-2/d/#"])
    one.link.publish("kp1/bus-1/u/ev", b"event")
    assert clients.settle(one) == [("kp1/bus-1/u/ev", b"event")]
    clients.city.link.publish("kp1/bus-1/d/ack", b"ack")
    clients.settle(one)
    assert [m.payload for m in one.messages] == [b"ack"]
    assert two.messages == []


@pytest.mark.parametrize(
    "topic", ["kp1/bus-2/u/ev", "kp1/bus-1/d/ack", "kp1/bus-2/d/cmd", "other", "$SYS/x"]
)
def test_a_device_publishes_nowhere_but_below_its_own_name(clients: Clients, topic: str) -> None:
    spy = clients.open(clients.two, "bus-2", subscriptions=["kp1/bus-2/d/#"])
    one = clients.open(clients.one, "bus-1", subscriptions=["kp1/bus-1/d/#"])
    one.link.publish(topic, b"forged")
    assert clients.settle(one) == []
    assert [m for client in (spy, one) for m in client.messages] == []


@pytest.mark.parametrize(
    "topic", ["kp1/bus-2/d/#", "kp1/+/d/#", "#", "kp1/bus-1/u/#", "$share/x/kp1/+/u/ev"]
)
def test_a_device_hears_nothing_of_others_whatever_it_subscribes_to(
    clients: Clients, topic: str
) -> None:
    """Also nothing that is retained; Mosquitto may grant the subscription, and delivers nothing."""
    two = clients.open(clients.two, "bus-2", subscriptions=["kp1/bus-2/d/#"])
    clients.city.link.publish("kp1/bus-2/d/cfg", b"retained", retain=True)
    clients.settle(two)
    one = clients.open(clients.one, "bus-1", subscriptions=[topic])
    clients.city.link.publish("kp1/bus-2/d/ack", b"secret")
    two.link.publish("kp1/bus-2/u/ev", b"secret")
    clients.settle(two)
    assert b"secret" in [m.payload for m in two.messages]
    assert [m for m in one.messages if "bus-2" in m.topic] == []


def test_taking_over_anothers_client_id_does_not_disturb_it(clients: Clients) -> None:
    two = clients.open(clients.two, "bus-2", subscriptions=["kp1/bus-2/d/#"])
    thief = clients.open(clients.one, "bus-2", subscriptions=["kp1/bus-2/d/#"])
    assert thief.ended is None  # it is let in, as what it is: bus-1
    clients.city.link.publish("kp1/bus-2/d/ack", b"for bus-2")
    clients.settle(two)
    assert two.ended is None
    assert [m.payload for m in two.messages] == [b"for bus-2"]
    assert thief.messages == []


def test_a_user_name_given_by_the_client_is_worth_nothing(clients: Clients) -> None:
    one = clients.open(clients.one, "bus-1", username="bus-2", password="x")
    assert one.ended is None
    one.link.publish("kp1/bus-2/u/ev", b"forged")
    assert clients.settle(one) == []


def test_a_last_will_is_published_in_ones_own_name_and_never_in_anothers(
    clients: Clients,
) -> None:
    for name in ("bus-2", "bus-1"):
        one = clients.open(clients.one, "bus-1", will=Message(f"kp1/{name}/u/st", b"gone"))
        assert one.ended is None
        sock = one.link._client.socket()  # type: ignore[union-attr]
        assert sock is not None
        sock.close()  # no goodbye: the broker has to speak the will
        one.ended = LinkDown("test")
    two = clients.open(clients.two, "bus-2")
    heard: list[tuple[str, bytes]] = []
    until(
        lambda: any(payload == b"gone" for _, payload in heard),
        meanwhile=lambda: heard.extend(clients.settle(two)),
    )
    assert {topic for topic, payload in heard if payload == b"gone"} == {"kp1/bus-1/u/st"}


def refused(town: Town, tls: Tls | None) -> str:
    link = MqttLink("localhost", town.broker.port, client_id="bus-1", tls=tls)
    found = outcome(link)
    link.close()
    assert isinstance(found, LinkDown)
    return found.reason


def test_without_a_certificate_nobody_gets_in(town: Town) -> None:
    assert refused(town, Tls(town.ca / "ca.pem"))
    assert refused(town, None)


@pytest.mark.slow
def test_an_expired_certificate_is_refused(town: Town, tmp_path: Path) -> None:
    tls = town.device("bus-1", tmp_path / "d", days=0.5 / 86_400)
    assert tls.certificate is not None
    ends_ms = read_identity(tls.certificate.read_bytes()).not_after_ms
    until(lambda: now_ms() > ends_ms + 1000)
    assert refused(town, tls)


def test_a_certificate_of_another_authority_is_refused(town: Town, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Town(tmp_path / "other")
    theirs = other.device("bus-1", tmp_path / "d")
    other.registry.close()
    assert refused(town, Tls(town.ca / "ca.pem", theirs.certificate, theirs.key))


def test_a_servers_certificate_is_no_way_in(town: Town) -> None:
    assert refused(town, Tls(town.ca / "ca.pem", town.ca / "est.pem", town.ca / "est.key"))


def test_a_devices_certificate_makes_no_server(town: Town, tmp_path: Path) -> None:
    """Else a stolen device could play the broker to the others."""
    tls = town.device("localhost", tmp_path / "d")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(tls.certificate), str(tls.key))
    near, far = socket.socketpair()

    def serve() -> None:
        with pytest.raises(OSError), context.wrap_socket(far, server_side=True):  # noqa: PT011
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        tls_context(Tls(town.ca / "ca.pem")).wrap_socket(near, server_hostname="localhost")
    near.close()
    thread.join(LATE_SECONDS)


@pytest.mark.slow
def test_a_revoked_device_is_refused_and_others_are_not(clients: Clients) -> None:
    assert outcome(MqttLink("localhost", clients.town.broker.port, client_id="x", tls=clients.one))
    clients.town.revoke("bus-1")

    def shut() -> bool:
        link = MqttLink("localhost", clients.town.broker.port, client_id="bus-1", tls=clients.one)
        found = outcome(link)
        link.close()
        return isinstance(found, LinkDown)

    until(shut, what="refused")
    assert clients.open(clients.two, "bus-2").ended is None


@pytest.mark.slow
def test_a_resumed_tls_session_is_no_way_around_a_revocation(clients: Clients) -> None:
    """Resumption skips the certificate, so the broker must not resume what it once accepted."""
    port = clients.town.broker.port
    context = tls_context(clients.one)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the session is there after the handshake

    def handshake(session: ssl.SSLSession | None) -> ssl.SSLSocket:
        plain = socket.create_connection(("localhost", port), 5)
        return context.wrap_socket(plain, server_hostname="localhost", session=session)

    with handshake(None) as first:
        session = first.session
    with handshake(session) as second:
        assert second.session_reused  # so there was something to get around
    clients.town.revoke("bus-1")

    def shut() -> bool:
        try:
            handshake(session).close()
        except ssl.SSLError:
            return True
        return False

    until(shut, what="refused")
    with pytest.raises(ssl.SSLError, match="REVOKED"):
        handshake(session)


@pytest.mark.slow
def test_a_revoked_device_that_is_connected_falls_silent_both_ways(clients: Clients) -> None:
    one = clients.open(clients.one, "bus-1", subscriptions=["kp1/bus-1/d/#"])
    two = clients.open(clients.two, "bus-2", subscriptions=["kp1/bus-2/d/#"])
    clients.settle(one)
    clients.town.revoke("bus-1")

    def silent() -> bool:
        marker = str(time.monotonic_ns()).encode()
        if one.ended is None:
            one.link.publish("kp1/bus-1/u/ev", marker)
            one.turn()
        return marker not in [payload for _, payload in clients.settle(two)]

    until(silent, what="silence")
    one.messages.clear()
    clients.city.link.publish("kp1/bus-1/d/ack", b"ack")
    clients.settle(two)
    assert one.messages == []


@pytest.mark.slow
def test_a_device_with_a_new_claim_is_let_in_again(clients: Clients, tmp_path: Path) -> None:
    clients.town.revoke("bus-1")
    again = clients.town.device("bus-1", tmp_path / "again")
    assert clients.town.publish() == []

    def lets_in() -> bool:
        one = clients.open(again, "bus-1")
        return one.ended is None

    until(lets_in, what="let in")
    assert clients.open(clients.one, "bus-1").ended is not None  # its old certificate stays revoked
    one = clients.open(again, "bus-1")
    one.link.publish("kp1/bus-1/u/ev", b"back")
    assert ("kp1/bus-1/u/ev", b"back") in clients.settle(one)


def test_a_message_beyond_the_limit_is_not_delivered(clients: Clients) -> None:
    one = clients.open(clients.one, "bus-1")
    one.link.publish("kp1/bus-1/u/ev", b"x" * 300_000)
    two = clients.open(clients.two, "bus-2")
    assert clients.settle(two) == []
