"""A network that misbehaves: a TCP proxy that delays, stalls, cuts and half-closes connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from random import Random

CHUNK_BYTES = 16_384
_RESET = struct.pack("ii", 1, 0)  # linger for 0 s: close with a reset


class _Pair:
    """One connection through the proxy, both ways."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.near = near
        self.far = far

    def abort(self) -> None:
        """Reset both ends; what was on its way is gone."""
        for writer in (self.near, self.far):
            ending = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):  # closed already
                ending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Forwards ``port`` to *target*, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._pairs: set[_Pair] = set()
        self._delay_seconds = 0.0
        self._flows = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def delay(self, seconds: float) -> None:
        """Hold back every piece for *seconds*; 0 ends it."""
        self._delay_seconds = seconds

    def stall(self, stalled: bool) -> None:
        """Stop carrying anything without closing anything; False ends it."""
        self._call(self._flows.clear if stalled else self._flows.set)

    def cut(self) -> None:
        """Reset every connection."""
        self._call(self._abort_all)

    def half_close(self, chance: Random) -> None:
        """End one direction of every connection, the other stays."""

        def end() -> None:
            for pair in list(self._pairs):
                writer = chance.choice([pair.near, pair.far])
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()

        self._call(end)

    def close(self) -> None:
        """End every connection and the thread."""
        self.cut()
        self._call(self._loop.stop)
        self._thread.join(5)

    def _abort_all(self) -> None:
        for pair in list(self._pairs):
            pair.abort()

    def _call(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._flows.set()
        server = self._loop.run_until_complete(
            asyncio.start_server(self._carry, sock=self._listener)
        )
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _carry(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            near.transport.abort()
            return
        pair = _Pair(near, far)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump(reader, far), self._pump(far_reader, near))
        except asyncio.CancelledError:
            pass  # the proxy closes; asyncio's streams would report it as a failure
        finally:
            self._pairs.discard(pair)
            pair.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                if self._delay_seconds:
                    await asyncio.sleep(self._delay_seconds)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
