"""A broker for the demo: the system's Mosquitto if there is one, else one out of a library.

Either listens on loopback only, on a free port, keeps nothing, and ends with the ``with`` block.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from agent.errors import LinkError

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
START_SECONDS = 5.0
STOP_SECONDS = 3.0


class Broker:
    """A running MQTT broker within a ``with`` block.

    *kind* "auto" takes Mosquitto when it is installed. After entering, ``host``, ``port``,
    ``protocol`` ("5" or "3.1.1", as in the settings) and ``name`` say how to reach it.
    """

    def __init__(self, kind: Literal["auto", "mosquitto", "embedded"] = "auto") -> None:
        self._kind = kind
        self._running: _Running | None = None
        self.host = HOST
        self.port = 0
        self.protocol: Literal["5", "3.1.1"] = "5"
        self.name = ""

    def __enter__(self) -> Broker:
        """Start; returns when the broker takes connections. Raises LinkError within 5 seconds."""
        program = None if self._kind == "embedded" else mosquitto()
        if program is None and self._kind == "mosquitto":
            raise LinkError("no Mosquitto on this machine; install it, or use the embedded broker")
        self.port = _free_port()
        if program is not None:
            self.name, self.protocol = "mosquitto", "5"
            self._running = _Mosquitto(program, self.port)
        else:
            self.name, self.protocol = "amqtt", "3.1.1"
            self._running = _Embedded(self.port)
        try:
            self._await_listening(self._running)
        except BaseException:
            self._running.stop()
            raise
        log.info("demo broker %s listens on %s:%d", self.name, self.host, self.port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _await_listening(self, running: _Running) -> None:
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


def mosquitto() -> str | None:
    """The Mosquitto program, looked for in the system's folders too; None if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("mosquitto", path=path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class _Running(Protocol):
    def ready(self) -> bool:
        """Whether it takes connections."""

    def failed(self) -> str:
        """Why it ended by itself, empty while it has not."""

    def stop(self) -> None: ...


class _Mosquitto:
    def __init__(self, program: str, port: int) -> None:
        self._port = port
        with ExitStack() as undo:
            folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="kaopass-broker-")))
            config = folder / "mosquitto.conf"
            # Started by root it would become another user, who may be missing on this machine.
            user = "user root\n" if os.geteuid() == 0 else ""
            config.write_text(
                f"{user}listener {port} {HOST}\nallow_anonymous true\npersistence false\n"
                "log_dest stderr\nlog_type error\n",
                encoding="utf-8",
            )
            self._log = undo.enter_context((folder / "log").open("w+b"))
            try:
                self._process = subprocess.Popen(
                    [program, "-c", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                )
            except OSError as error:
                raise LinkError(f"{program} cannot be started: {error.strerror}") from error
            self._undo = undo.pop_all()

    def ready(self) -> bool:
        try:
            socket.create_connection((HOST, self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def failed(self) -> str:
        if self._process.poll() is None:
            return ""
        self._log.seek(0)
        said = self._log.read().decode("utf-8", "replace").strip()
        return said or f"exit code {self._process.returncode}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._undo.close()


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
