"""A Mosquitto of one's own on this machine: for the demo, to measure with, and in tests."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from agent.base.errors import LinkError, UsageError

LOOPBACK = "127.0.0.1"
START_SECONDS = 10.0
STOP_SECONDS = 10.0
_SAID_CHARACTERS = 500  # of its log, in an error
_Own = TypeVar("_Own", bound="Mosquitto")


def find_mosquitto() -> str | None:
    """The program, looked for in the system's folders too; None if there is none."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("mosquitto", path=path)


def free_port() -> int:
    """A port of this machine that nobody uses just now.

    Below those that Linux gives away by itself: another program may be given one of them before
    whoever asked here listens on it.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port


class Mosquitto:
    """A broker as a context manager; it keeps its port and its configuration over restarts."""

    def __init__(self, folder: Path, port: int, lines: Sequence[str]) -> None:
        """*lines* are the whole configuration; file and log are written into *folder*.

        Raises UsageError when Mosquitto is not installed.
        """
        program = find_mosquitto()
        if program is None:
            raise UsageError("this needs the broker Mosquitto: apt-get install mosquitto")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.log_file = folder / "mosquitto.log"
        self._program = program
        self._lines = list(lines)
        if os.geteuid() == 0:
            # Started by root it would become another user, who may be missing on this machine.
            self._lines.insert(0, "user root")
        self._config = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running process; 0 while there is none."""
        return self._process.pid if self._process else 0

    def start(self, *more: str) -> None:
        """Start, with *more* lines of configuration this time; returns when it takes connections.

        Raises LinkError with what it said when it does not.
        """
        self._config.write_text("\n".join([*self._lines, *more]) + "\n", encoding="utf-8")
        with self.log_file.open("ab") as log:
            self._process = process = subprocess.Popen(
                [self._program, "-c", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((LOOPBACK, self.port), 1.0).close()
                return
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    self.stop(kill=True)
                    said = self.log_file.read_text(errors="replace").strip()[-_SAID_CHARACTERS:]
                    raise LinkError(
                        f"Mosquitto does not listen on {LOOPBACK}:{self.port} "
                        f"within {START_SECONDS:g} s: {said or error}"
                    ) from error
                time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """End it with a goodbye to its clients, or by SIGKILL; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        if not kill:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                kill = True
        if kill:
            process.kill()
            process.wait()

    def __enter__(self: _Own) -> _Own:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
