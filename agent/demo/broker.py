"""A broker for the demo: the system's Mosquitto if there is one, else one out of a library.

Either listens on loopback only, on a free port, keeps nothing, and ends with the ``with`` block.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal

from agent.base.errors import LinkError
from agent.sim.net.mosquitto import LOOPBACK, Mosquitto, find_mosquitto, free_port

log = logging.getLogger(__name__)

HOST = LOOPBACK
START_SECONDS = 5.0
STOP_SECONDS = 3.0


class DemoBroker:
    """A running MQTT broker within a ``with`` block.

    *kind* "auto" takes Mosquitto when it is installed. After entering, ``host``, ``port``,
    ``protocol`` ("5" or "3.1.1", as in the settings) and ``name`` say how to reach it.
    """

    def __init__(self, kind: Literal["auto", "mosquitto", "embedded"] = "auto") -> None:
        self._kind = kind
        self._undo = ExitStack()
        self.host = HOST
        self.port = 0
        self.protocol: Literal["5", "3.1.1"] = "5"
        self.name = ""

    def __enter__(self) -> DemoBroker:
        """Start; returns when it takes connections. Raises LinkError if it does not in time."""
        own = self._kind != "embedded" and find_mosquitto() is not None
        if not own and self._kind == "mosquitto":
            raise LinkError("no Mosquitto on this machine; install it, or use the embedded broker")
        self.port = free_port()
        with ExitStack() as undo:
            if own:
                self.name, self.protocol = "mosquitto", "5"
                name = undo.enter_context(tempfile.TemporaryDirectory(prefix="kaopass-broker-"))
                undo.enter_context(Mosquitto(Path(name), self.port, self._lines()))
            else:
                self.name, self.protocol = "amqtt", "3.1.1"
                embedded = _Embedded(self.port)
                undo.callback(embedded.stop)
                self._await_listening(embedded)
            self._undo = undo.pop_all()
        log.info("demo broker %s listens on %s:%d", self.name, self.host, self.port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._undo.close()

    def _lines(self) -> list[str]:
        return [
            *(f"listener {self.port} {HOST}", "allow_anonymous true", "persistence false"),
            *("set_tcp_nodelay true", "log_dest stderr", "log_type error"),
        ]

    def _await_listening(self, running: _Embedded) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            complaint = running.failed()
            if complaint:
                raise LinkError(f"the demo's broker {self.name} did not start: {complaint}")
            if running.ready():
                return
            time.sleep(0.02)
        raise LinkError(
            f"the demo's broker {self.name} did not listen on {self.host}:{self.port} "
            f"within {START_SECONDS:g} s; the machine may be overloaded, try again"
        )


class _Embedded:
    """amqtt in a thread with its own event loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._complaint = ""
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-broker", daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        # A connection made only to see, as with Mosquitto, is one that amqtt never closes.
        return self._listening.is_set()

    def failed(self) -> str:
        if self._thread.is_alive():
            return ""
        return self._complaint or "its thread ended"

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("the embedded broker did not stop within %g s", STOP_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except LinkError as error:
            self._complaint = str(error)
        finally:
            leftover = asyncio.all_tasks(self._loop)
            for task in leftover:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _serve(self) -> None:
        # It reports each client that leaves, and its own plug-ins, as warnings and errors.
        for chatty in ("amqtt", "transitions"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from amqtt.broker import Broker as Amqtt  # noqa: PLC0415 - slow, often not needed
                from amqtt.errors import BrokerError  # noqa: PLC0415
        except ImportError as error:
            raise LinkError(
                "neither Mosquitto nor the embedded broker is installed; "
                "run: pip install 'kaopass[demo]'"
            ) from error
        broker = Amqtt(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{self._port}"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        try:
            await broker.start()
        except BrokerError as error:
            raise LinkError(f"{error}") from error
        self._listening.set()
        await self._stopping.wait()
        await broker.shutdown()
        await asyncio.sleep(0.05)  # lets closed connections be taken down before the loop ends
