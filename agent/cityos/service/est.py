"""The EST server: HTTPS with an optional client certificate, bounded in every direction.

asyncio for TLS and connections, h11 for HTTP. (uvicorn does not tell an application the client's
certificate, and the standard library's HTTP server would spend a thread on each slow guest.) A
connection has a fixed time for everything, a request a fixed size, and there are so many
connections at once and no more.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import h11

from agent.base.errors import CityError
from agent.cityos.service.estdesk import MOST_BODY_BYTES, Desk, Request, Response

log = logging.getLogger(__name__)

_HANDSHAKE_SECONDS = 10.0
_READ_BYTES = 65_536


def server_context(certificate: Path, key: Path, authorities: Path) -> ssl.SSLContext:
    """TLS 1.2 or later; a client's certificate is asked for, and checked if one comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(authorities)
    except OSError as error:
        raise CityError(f"EST server: {certificate} or {authorities}: {error}") from error
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class EstServer:
    """Serves *desk* on *host*:*port* (0: any free one) until ``serve`` is cancelled or told."""

    def __init__(
        self,
        desk: Desk,
        context: ssl.SSLContext,
        host: str,
        port: int,
        *,
        most_connections: int = 64,
        connection_seconds: float = 30.0,
    ) -> None:
        self._desk = desk
        self._context = context
        self._host = host
        self._port = port
        self._most_connections = most_connections
        self._connection_seconds = connection_seconds
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Serve until *stop*; *ready* hears the port. Raises CityError if it cannot listen."""
        try:
            server = await asyncio.start_server(
                self._guest,
                self._host,
                self._port,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                limit=_READ_BYTES,
            )
        except OSError as error:
            raise CityError(
                f"EST server: cannot listen on {self._host}:{self._port}: {error.strerror or error}"
            ) from error
        ready(server.sockets[0].getsockname()[1])
        try:
            await stop.wait()
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _guest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= self._most_connections:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await asyncio.wait_for(self._talk(reader, writer), self._connection_seconds)
        except (OSError, asyncio.TimeoutError, h11.ProtocolError) as error:
            log.debug("a connection ended: %s", type(error).__name__)
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests and answers on one connection, until either side has enough."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES // 4)
        peer = _peer(writer)
        more = True
        while more:
            found: Request | Response | None
            try:
                found = await self._request(connection, reader, writer, peer)
            except h11.RemoteProtocolError as error:
                if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                    break
                found = _plain(error.error_status_hint, "this is not HTTP as it should be")
            if found is None:
                break
            if isinstance(found, Request):
                found = await asyncio.to_thread(self._desk.answer, found)
            await _send(connection, writer, found)
            more = connection.our_state is h11.DONE and connection.their_state is h11.DONE
            if more:
                connection.start_next_cycle()
        writer.close()
        await writer.wait_closed()

    async def _request(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: bytes | None,
    ) -> Request | Response | None:
        """The next request; a Response where it is refused unread, None at the end."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    writer.write(connection.send(go_on) or b"")
                connection.receive_data(await reader.read(_READ_BYTES))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MOST_BODY_BYTES:
                    return _plain(413, f"a request has at most {MOST_BODY_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _as_request(head, bytes(body), peer)
            else:  # closed
                return None


def _peer(writer: asyncio.StreamWriter) -> bytes | None:
    found = writer.get_extra_info("ssl_object")
    certificate: bytes | None = found.getpeercert(binary_form=True)
    return certificate


def _as_request(head: h11.Request, body: bytes, peer: bytes | None) -> Request:
    authorization = dict(head.headers).get(b"authorization", b"")
    return Request(
        head.method.decode("ascii"),
        head.target.decode("ascii", "replace"),
        authorization.decode("latin-1"),
        body,
        peer,
    )


async def _send(
    connection: h11.Connection, writer: asyncio.StreamWriter, response: Response
) -> None:
    headers = [
        *response.headers,
        ("Content-Length", str(len(response.body))),
        # A device without a battery learns from it what time it may be.
        ("Date", formatdate(usegmt=True)),
    ]
    writer.write(connection.send(h11.Response(status_code=response.status, headers=headers)) or b"")
    if response.body:
        writer.write(connection.send(h11.Data(data=response.body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()


def _plain(status: int, reason: str) -> Response:
    return Response(
        status, (("Content-Type", "text/plain"), ("Connection", "close")), (reason + "\n").encode()
    )
