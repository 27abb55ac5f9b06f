"""Processes in milliseconds: a server that has imported everything forks one for each life.

It runs with ``disk.c`` below it, so every life can be traced. Kills go through it: it alone knows
which of its children still live, so a number that the system has given to somebody else is never
hit. ``python -m tests.faults.processes`` is the server; ``Processes`` talks to it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROLES = ("device", "city", "writer")
DEFECT = 70  # exit code of a life that ended with a traceback


class Life:
    """One forked process. ``status`` is as of ``waitstatus_to_exitcode``: negative for signals."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self.kill = kill
        self.status: int | None = None
        self._over = threading.Event()

    def ended(self, status: int) -> None:
        self.status = status
        self._over.set()

    def wait(self, seconds: float) -> int | None:
        """How it ended; None if it still runs after *seconds*."""
        self._over.wait(seconds)
        return self.status


class Processes:
    """The client: start lives from any thread."""

    def __init__(self, library: Path, log: Path) -> None:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "OPENBLAS_NUM_THREADS": "1",  # forking wants a single thread
        }
        with log.open("ab") as errors:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.processes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=Path(__file__).parents[2],
                env=environment,
            )
        self._lock = threading.Lock()
        self._lives: dict[int, Life] = {}
        self._number = 0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, role: str, log: Path, **spec: Any) -> Life:
        """Run *role* with *spec*; what it prints goes to *log*."""
        with self._lock:
            self._number += 1
            number = self._number
            life = self._lives[number] = Life(lambda: self._send({"kill": number}))
        self._send({"start": number, "role": role, "log": str(log), "spec": spec})
        return life

    def _send(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        with self._lock:
            self._server.stdin.write(json.dumps(message).encode() + b"\n")
            self._server.stdin.flush()

    def _listen(self) -> None:
        assert self._server.stdout is not None
        for line in self._server.stdout:
            number, status = json.loads(line)
            with self._lock:
                life = self._lives.pop(number)
            life.ended(status)
        with self._lock:
            for life in self._lives.values():
                life.ended(DEFECT)  # the server itself is gone

    def close(self) -> None:
        """End the server, which ends what still runs."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(10)
        self._listener.join(5)
        self._server.stdout.close()

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve() -> None:
    """Fork and kill as standard input says; write [number, status] when a life has ended."""
    from tests.faults import city, device
    from tests.faults.disks import writer

    runs: dict[str, Callable[..., None]] = {
        "device": device.run,
        "city": city.run,
        "writer": writer.run,
    }
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pids: dict[int, int] = {}
    waiting = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _reap(pids)
        if 0 not in ready:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "kill" in message:
                pid = pids.get(message["kill"])
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                continue
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _live(runs[message["role"]], message)
            pids[message["start"]] = pid
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)


def _reap(pids: dict[int, int]) -> None:
    for number, pid in list(pids.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            del pids[number]
            os.write(1, json.dumps([number, os.waitstatus_to_exitcode(status)]).encode() + b"\n")


def _live(run: Callable[..., None], message: dict[str, Any]) -> None:
    """The child's whole life; never returns into the server's loop."""
    code = DEFECT
    try:
        log = os.open(message["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        run(**message["spec"])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - whatever it is, it is this life's end and is shown
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
