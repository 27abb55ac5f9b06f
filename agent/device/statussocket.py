"""A running agent's answer to ``kaopass status``: one JSON snapshot a connection, locally only.

The lock file beside the socket is held for the agent's life, so a second agent on the same state
is refused, hung or not, and a socket file whose lock is free is known to be stale.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.base.errors import StatusError
from agent.base.values import Health

log = logging.getLogger(__name__)

# sun_path of sockaddr_un holds 108 bytes with the closing zero (unix(7)).
_MOST_PATH_BYTES = 107
_ANSWER_SECONDS = 0.5
_MOST_ANSWER_BYTES = 1 << 20


class StatusSocket:
    """Serves *snapshot* at *path* from its own thread, from ``open()`` until ``close()``."""

    def __init__(self, path: Path, snapshot: Callable[[], Health]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._lock_fd: int | None = None
        self._listener: socket.socket | None = None
        self._wake_read, self._wake_write = -1, -1
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Take the place and begin to answer; the socket is 0660.

        Raises StatusError when another agent is running here or the path cannot be used.
        """
        if len(os.fsencode(self._path)) > _MOST_PATH_BYTES:
            raise StatusError(
                f"status socket {self._path}: a socket's path has at most {_MOST_PATH_BYTES} "
                "bytes; set a shorter state.socket"
            )
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._take_lock()
            self._remove_stale()
            self._listener = self._listen()
        except OSError as error:
            self.close()
            raise StatusError(
                f"status socket {self._path}: {error.strerror or error}; is the directory there "
                "and writable for this user? (state.socket)"
            ) from error
        except StatusError:
            self.close()
            raise
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(
            target=self._serve, args=(self._listener,), name="status", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop answering, remove the socket, give the place free; safe to call twice."""
        if self._thread is not None:
            os.write(self._wake_write, b"x")
            self._thread.join(timeout=2 * _ANSWER_SECONDS)
            self._thread = None
            os.close(self._wake_read)
            os.close(self._wake_write)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._path.unlink(missing_ok=True)
        if self._lock_fd is not None:
            os.close(self._lock_fd)  # and with it the lock; the file stays, removing it would race
            self._lock_fd = None

    def _take_lock(self) -> None:
        name = self._path.with_name(self._path.name + ".lock")
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StatusError(
                f"another agent is running: it holds {self._path}; see 'kaopass status', stop it "
                "(systemctl stop kaopass-agent) or give this one another state.directory and "
                "state.socket"
            ) from error
        self._lock_fd = descriptor

    def _remove_stale(self) -> None:
        """Remove a dead agent's socket, but nobody's ordinary file."""
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise StatusError(
                f"status socket {self._path}: something else is there and is left alone; move it "
                "away or set another state.socket"
            )
        if _answers(self._path):
            raise StatusError(
                f"another agent is running: it answers on {self._path}; stop it or give this one "
                "another state.socket"
            )
        self._path.unlink()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Bound under a name of its own, restricted, then renamed: never open to all for a moment,
        # and without the umask, which belongs to every thread.
        fresh = self._path.with_name("." + self._path.name[:8])
        try:
            fresh.unlink(missing_ok=True)
            listener.bind(os.fspath(fresh))
            fresh.chmod(0o660)
            listener.listen(8)
            listener.setblocking(False)
            fresh.rename(self._path)
        except OSError:
            listener.close()
            raise
        return listener

    def _serve(self, listener: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select()}
                if self._wake_read in ready:
                    return
                try:
                    connection, _ = listener.accept()
                except OSError:  # it went away again
                    continue
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        # One who never reads is dropped, so that the next one is answered.
        connection.settimeout(_ANSWER_SECONDS)
        try:
            health = json.dumps(asdict(self._snapshot()), ensure_ascii=False)
        # A defect in one counter's source must not take `kaopass status` away for good.
        except Exception:
            log.exception("no snapshot for the status socket")
            return
        try:
            connection.sendall(health.encode() + b"\n")
        except OSError as error:
            log.debug("status not delivered: %s", error)


def ask(path: Path, timeout_seconds: float = 3.0) -> dict[str, Any]:
    """The snapshot of the agent that answers at *path*, as JSON says it.

    Raises StatusError when none is running, it does not answer in time, or may not be asked.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(os.fspath(path))
            answer = _read_all(connection)
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise StatusError(
            f"no agent is running: nobody answers on {path}; start it with 'systemctl start "
            "kaopass-agent' or 'kaopass run --settings FILE', or name its settings with --settings"
        ) from error
    except PermissionError as error:
        raise StatusError(
            f"{path}: no permission to ask; use sudo, or join the agent's group: "
            "usermod -aG kaopass USER"
        ) from error
    except TimeoutError as error:
        raise StatusError(
            f"the agent at {path} does not answer within {timeout_seconds:g} s: it hangs; see "
            "'journalctl -u kaopass-agent', then 'systemctl restart kaopass-agent'"
        ) from error
    except OSError as error:
        raise StatusError(f"{path}: {error}; is it the agent's socket?") from error
    try:
        health = json.loads(answer)
        if isinstance(health, dict):
            return health
    except ValueError:
        pass
    raise StatusError(f"what answers on {path} is no kaopass agent; see state.socket")


def _read_all(connection: socket.socket) -> bytes:
    parts = bytearray()
    while len(parts) < _MOST_ANSWER_BYTES and (part := connection.recv(65_536)):
        parts += part
    return bytes(parts)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(os.fspath(path))
        except OSError:
            return False
        return True
