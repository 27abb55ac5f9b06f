"""Simulated devices: what a device says and does on the wire, with its events in memory."""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
import time
from collections import Counter

from agent.base.errors import MessageError
from agent.base.events import StoredEvent
from agent.lab.sync import boarding
from agent.protocol import topics
from agent.protocol.commands import read_replay
from agent.protocol.control import CommandResult, encode_result, read_unsigned
from agent.protocol.items import encode_event
from agent.protocol.messages import Birth, Bounds, decode_ack, encode_birth, encode_will, pack
from agent.protocol.topics import down_topics
from tests.fleet.mqtt import Connection

RETRY_MIN_SECONDS, RETRY_MAX_SECONDS = 1.0, 300.0
RESEND_SECONDS = 30.0
PING_SECONDS = 40.0


class SimulatedDevice:
    """Appends events, sends them until they are acknowledged, comes back with full jitter."""

    def __init__(self, name: str, port: int, context: ssl.SSLContext | None) -> None:
        self.name = name
        self._port = port
        self._context = context
        self._epoch = secrets.token_hex(16)
        self._waiting: dict[int, bytes] = {}
        self._all: list[bytes] = []
        self._attempts = 0
        self._connection: Connection | None = None
        self.up_since: float | None = None

    @property
    def persons(self) -> Counter[str]:
        """What was appended, as the city's verdict counts it."""
        return Counter(boarding(seq).person for seq in range(1, len(self._all) + 1))

    @property
    def drained(self) -> bool:
        return not self._waiting

    def append(self) -> None:
        seq = len(self._all) + 1
        body = encode_event(StoredEvent(self._epoch, seq, boarding(seq)))
        self._all.append(body)
        self._waiting[seq] = body
        if self.up_since is not None:
            self._send([body])

    async def live(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        while True:
            try:
                await self._connected()
            except (OSError, EOFError):
                failures = 1 if self.up_since is not None else failures + 1
            finally:
                self.up_since = None
                if self._connection is not None:
                    self._connection.close()
            ceiling = min(RETRY_MAX_SECONDS, RETRY_MIN_SECONDS * 2.0**failures)
            await asyncio.sleep(RETRY_MIN_SECONDS + random.random() * (ceiling - RETRY_MIN_SECONDS))

    async def _connected(self) -> None:
        self._attempts += 1
        self._connection = connection = Connection(self._received)
        topic = topics.STATE.of(self.name)
        will = (topic, encode_will(self._attempts))
        await connection.open(self._port, self.name, down_topics(self.name), will, self._context)
        bounds = (Bounds(self._epoch, 1, len(self._all)),)
        birth = Birth(self._attempts, self._epoch, bounds, "fleet")
        connection.publish(topic, encode_birth(birth), retain=True)
        self.up_since = time.monotonic()
        self._send(list(self._waiting.values()))
        upkeep = asyncio.ensure_future(self._upkeep(connection))
        try:
            await connection.serve()
        finally:
            upkeep.cancel()

    async def _upkeep(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(min(PING_SECONDS, RESEND_SECONDS))
            connection.ping()
            self._send(list(self._waiting.values()))

    def _send(self, bodies: list[bytes]) -> None:
        assert self._connection is not None
        for at in range(0, len(bodies), 100):
            self._connection.publish(topics.EVENTS.of(self.name), pack(bodies[at : at + 100]))

    def _received(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/d/cmd"):
            self._replay(payload)
            return
        try:
            ack = decode_ack(payload)
        except MessageError:
            return
        spans = [(1, ack.upto), *ack.have]
        for seq in [s for s in self._waiting if any(a <= s <= b for a, b in spans)]:
            del self._waiting[seq]

    def _replay(self, payload: bytes) -> None:
        command = read_unsigned(payload, self.name)
        replay = read_replay(command.arguments)
        wanted = range(replay.first, min(replay.last, len(self._all)) + 1)
        self._send([self._all[seq - 1] for seq in wanted])
        outcome = CommandResult(command.id, "done", detail={"count": len(wanted)})
        assert self._connection is not None
        self._connection.publish(topics.RESULTS.of(self.name), encode_result(outcome))
