"""Just enough of MQTT 3.1.1 for thousands of simulated devices in one asyncio loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ = 1, 2, 3, 4, 8, 9, 12


class Connection:
    """One connection; ``serve`` reads until it ends and hands messages to *received*."""

    def __init__(self, received: Callable[[str, bytes], None]) -> None:
        self._received = received
        self._next_id = 0

    async def open(
        self,
        port: int,
        client_id: str,
        topics: list[str],
        will: tuple[str, bytes],
        context: ssl.SSLContext | None,
    ) -> None:
        """Connect and subscribe. Raises OSError or EOFError."""
        name = "localhost" if context else None
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name
        )
        # Flags: clean session, will of QoS 1, retained.
        body = b"\x00\x04MQTT\x04" + bytes([0x02 | 0x04 | 0x08 | 0x20]) + (60).to_bytes(2, "big")
        body += _text(client_id.encode()) + _text(will[0].encode()) + _text(will[1])
        self._send(CONNECT << 4, body)
        kind, answer = await self._packet()
        if kind >> 4 != CONNACK or answer[1] != 0:
            raise EOFError("refused")
        asked = b"".join(_text(topic.encode()) + b"\x01" for topic in topics)
        self._send(SUBSCRIBE << 4 | 2, self._id() + asked)
        kind, _ = await self._packet()
        if kind >> 4 != SUBACK:
            raise EOFError("not subscribed")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._send(PUBLISH << 4 | 2 | retain, _text(topic.encode()) + self._id() + payload)

    def ping(self) -> None:
        self._send(PINGREQ << 4, b"")

    async def serve(self) -> None:
        """Until the connection ends: raises OSError or EOFError then."""
        while True:
            kind, body = await self._packet()
            if kind >> 4 != PUBLISH:
                continue
            length = int.from_bytes(body[:2], "big")
            at = 2 + length
            if kind & 6:
                self._send(PUBACK << 4, body[at : at + 2])
                at += 2
            self._received(body[2 : 2 + length].decode(), body[at:])

    def close(self) -> None:
        if hasattr(self, "_writer"):
            self._writer.transport.abort()

    def _id(self) -> bytes:
        self._next_id = self._next_id % 65_535 + 1
        return self._next_id.to_bytes(2, "big")

    def _send(self, kind: int, body: bytes) -> None:
        length, head = len(body), bytearray([kind])
        while True:
            length, digit = divmod(length, 128)
            head.append(digit | (0x80 if length else 0))
            if not length:
                break
        self._writer.write(bytes(head) + body)

    async def _packet(self) -> tuple[int, bytes]:
        kind = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            digit = (await self._reader.readexactly(1))[0]
            length |= (digit & 0x7F) << shift
            if digit < 0x80:
                break
            shift += 7
        return kind, await self._reader.readexactly(length)


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value
