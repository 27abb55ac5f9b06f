"""MQTT through paho-mqtt, as a Link: one connection, one thread, no hidden one that could die.

What paho keeps is not trusted: every connection gets a new client, so nothing queued in memory
outlives it, and its "published" is never read as "stored". Waiting, reading and writing happen in
``turn``; an exception inside paho ends the connection, not the thread.
"""

from __future__ import annotations

import logging
import select
import ssl
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.base.errors import LinkError
from agent.base.values import LinkDown, LinkEvent, LinkUp, Message
from agent.hw.net.sockets import confirm_at_once, send_at_once
from agent.hw.net.tls import REVOKED, Tls, connect_trouble, says_revoked, tls_context
from agent.protocol.topics import QOS

log = logging.getLogger(__name__)

_MAX_INFLIGHT = 20  # QoS 1 messages the broker has not answered; less where it asks for less
_EVENTS_A_TURN = 64
_MAX_PACKET_BYTES = 2**28  # what MQTT itself allows
_HEADER_BYTES = 16  # of a PUBLISH, at most, beside topic and payload
_READ = select.POLLIN | select.POLLPRI | select.POLLERR | select.POLLHUP


class _LastError(logging.Logger):
    """Takes paho's log only for why a connection ended: its callbacks do not say."""

    def __init__(self) -> None:
        super().__init__(f"{__name__}.paho")
        self.text = ""

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:
        if level >= logging.ERROR:
            self.text = str(msg) % args


class MqttLink:
    """One connection to a broker (port Link). Everything sent or asked for has QoS 1.

    *subscriptions* are asked for at every connection; LinkUp comes when all are granted.
    *will* is published, retained, by the broker when the connection dies. The session is clean:
    what must survive is in the journal, not in the broker. A broker that leaves more than
    *max_queued_messages* unanswered is not answering.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        client_id: str,
        protocol: Literal["5", "3.1.1"] = "5",
        tls: Tls | None = None,
        username: str = "",
        password: str = "",
        keepalive_seconds: int = 30,
        connect_seconds: float = 5.0,
        subscriptions: Sequence[str] = (),
        will: Message | None = None,
        max_queued_messages: int = 500,
    ) -> None:
        self._host = host
        self._port = port
        self._client_id = client_id
        self._protocol = protocol
        self._tls = tls
        self._username = username
        self._password = password
        self._keepalive_seconds = keepalive_seconds
        self._connect_seconds = connect_seconds
        self._subscriptions = tuple(subscriptions)
        self._will = will
        self._max_queued_messages = max_queued_messages
        self._client: paho.Client | None = None
        self._heard = _LastError()
        self._events: list[LinkEvent] = []
        self._up = False
        self._reason = ""
        self._give_up_at = 0.0
        self._refusals_logged = False
        self._queue: deque[tuple[str, bytes, bool]] = deque()
        self._window = _MAX_INFLIGHT
        self._max_packet_bytes = _MAX_PACKET_BYTES
        self._unanswered = 0

    def open(self) -> None:
        """Connect: at most *connect_seconds* each for TCP and TLS, after the name is resolved.

        Raises LinkError for files and values that can never work. A broker that cannot be reached
        is a LinkDown of the next turn.
        """
        self.close()
        self._events.clear()
        self._queue.clear()
        self._unanswered = 0
        self._reason = self._heard.text = ""
        self._refusals_logged = False
        client = self._new_client()
        self._give_up_at = time.monotonic() + 3 * self._connect_seconds
        try:
            client.connect(self._host, self._port, self._keepalive_seconds)
            send_at_once(client.socket())
        except (OSError, ValueError) as error:
            self._events.append(LinkDown(f"{self._name}: {connect_trouble(error)}"))
            return
        self._client = client

    def turn(self, seconds: float) -> list[LinkEvent]:
        """Read and write for at most *seconds*; returns sooner when something happened."""
        until = time.monotonic() + seconds
        while self._client is not None:
            client, sock = self._client, self._client.socket()
            if sock is None:
                self._down(self._reason or "connection lost")
                break
            left = 0.0 if self._events else max(0.0, until - time.monotonic())
            if not self._step(client, sock, left) and (self._events or time.monotonic() >= until):
                break
            if len(self._events) >= _EVENTS_A_TURN or time.monotonic() >= until:
                break
        if self._client is None and not self._events:
            time.sleep(seconds)  # a caller that turns a dead link must not spin
        events, self._events = self._events, []
        return events

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1. Raises LinkError when not connected or the broker answers nothing."""
        if self._client is None or not self._up:
            raise LinkError(f"{self._name}: not connected, so nothing can be sent")
        if len(self._queue) >= self._max_queued_messages:
            raise LinkError(f"{self._name}: leaves {len(self._queue)} messages waiting")
        if len(topic) + len(payload) + _HEADER_BYTES > self._max_packet_bytes:
            raise LinkError(
                f"{self._name}: takes at most {self._max_packet_bytes} bytes, not {len(payload)}; "
                "lower sync.batch_bytes, or raise the broker's limit"
            )
        self._queue.append((topic, payload, retain))
        self._send_queued(self._client)

    @property
    def unanswered(self) -> int:
        """Messages published that the broker has not taken over yet."""
        return len(self._queue) + self._unanswered

    def close(self) -> None:
        """Say goodbye if that is possible at once; safe to call twice."""
        client, self._client, self._up = self._client, None, False
        if client is None:
            return
        client.on_disconnect = None
        try:
            client.disconnect()
            client.loop_write()
        except Exception as error:  # noqa: BLE001 - closing a broken connection must not fail
            log.debug("%s: %s while closing", self._name, error)
        sock = client.socket()
        if sock is not None:
            sock.close()

    @property
    def _name(self) -> str:
        return f"broker {self._host}:{self._port}"

    def _step(self, client: paho.Client, sock: Any, seconds: float) -> bool:
        """Wait for the socket, let paho work on it; returns whether there was anything to do."""
        poll = select.poll()  # select() fails on the 1,024th descriptor
        poll.register(sock, _READ | (select.POLLOUT if client.want_write() else 0))
        buffered = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        try:
            ready = poll.poll(0 if buffered else seconds * 1000)
            seen = ready[0][1] if ready else 0
            if seen & _READ or buffered:
                client.loop_read()
                confirm_at_once(client.socket())
            if seen & select.POLLOUT:
                client.loop_write()
            client.loop_misc()
            if client.socket() is not None:
                self._send_queued(client)
        # paho lets malformed packets and broken sockets escape as many kinds of exception.
        except Exception as error:  # noqa: BLE001
            self._down(f"connection broken: {type(error).__name__}: {error}")
            return True
        if not self._up and self._client is not None and time.monotonic() > self._give_up_at:
            self._down(f"no answer within {3 * self._connect_seconds:.0f} s")
        return bool(seen) or buffered

    def _send_queued(self, client: paho.Client) -> None:
        """Send while the broker's Receive Maximum leaves room, which paho does not look at."""
        while self._queue and self._unanswered < self._window:
            topic, payload, retain = self._queue.popleft()
            self._unanswered += 1
            try:
                code = client.publish(topic, payload, qos=QOS, retain=retain).rc
            except (OSError, ValueError) as error:
                raise LinkError(f"{self._name}: cannot send on {topic}: {error}") from error
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                raise LinkError(f"{self._name}: cannot send on {topic}: {paho.error_string(code)}")

    def _down(self, reason: str) -> None:
        self.close()
        self._events.append(LinkDown(f"{self._name}: {reason}"))

    def _new_client(self) -> paho.Client:
        five = self._protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if five else True,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            # True would make paho silently try MQTT 3.1 where 3.1.1 is refused.
            reconnect_on_failure=False,
        )
        client.connect_timeout = self._connect_seconds
        client.max_inflight_messages_set(0)  # no limit of its own: see _send_queued
        client.enable_logger(self._heard)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        if self._username:
            client.username_pw_set(self._username, self._password or None)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=QOS, retain=True)
        if self._tls is not None:
            client.tls_set_context(tls_context(self._tls))
        return client

    # paho's callbacks. They only note what happened: an exception in one would be paho's end.

    def _on_connect(
        self,
        client: paho.Client,
        _data: Any,
        _flags: Any,
        code: ReasonCode,
        found: Properties | None,
    ) -> None:
        if code.is_failure:
            self._reason = f"refused: {code}; {_advice(str(code), self._protocol)}"
            return
        self._window = min(_MAX_INFLIGHT, getattr(found, "ReceiveMaximum", _MAX_INFLIGHT))
        self._max_packet_bytes = getattr(found, "MaximumPacketSize", _MAX_PACKET_BYTES)
        if self._subscriptions:
            client.subscribe([(topic, QOS) for topic in self._subscriptions])
        else:
            self._up = True
            self._events.append(LinkUp())

    def _on_subscribe(
        self, client: paho.Client, _data: Any, _mid: int, codes: list[ReasonCode], _found: Any
    ) -> None:
        for topic, code in zip(self._subscriptions, codes, strict=False):
            if code.is_failure:
                self._reason = f"subscription to {topic} refused: {code}; check the broker's rules"
                client.disconnect()
                return
        self._up = True
        self._events.append(LinkUp())

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no topic of ours
        self._events.append(Message(topic, bytes(message.payload), message.retain))

    def _on_publish(
        self, _client: paho.Client, _data: Any, _mid: int, code: ReasonCode, _found: Any
    ) -> None:
        self._unanswered -= 1
        if code.is_failure and not self._refusals_logged:
            self._refusals_logged = True
            log.warning("%s does not take a message: %s", self._name, code)

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, flags: Any, code: ReasonCode, _found: Any
    ) -> None:
        if self._reason:
            return
        if flags.is_disconnect_packet_from_server:
            self._reason = f"broker ended the connection: {code}"
        elif says_revoked(self._heard.text):  # with TLS 1.3 the broker's alert comes this late
            self._reason = REVOKED
        elif self._up:
            self._reason = f"connection lost: {self._heard.text or code}"
        else:
            self._reason = (
                f"connection closed before it was accepted: {self._heard.text or code}; "
                f"{_advice('', self._protocol)}"
            )


def _advice(reason: str, protocol: str) -> str:
    lowered = reason.lower()
    if "authori" in lowered or "password" in lowered:
        return "check user name, password or certificate, and the broker's rules"
    if "identifier" in lowered:
        return "check the device's name"
    if "protocol" in lowered:
        return f"the broker does not speak MQTT {protocol}; set the other version"
    if not reason:
        return f"check that the broker speaks MQTT {protocol} and trusts this side's certificate"
    return "see the broker's log"
