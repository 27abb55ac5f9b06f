"""What sync remembers over restarts: connections begun, failures in a row, commands carried out.

It lives in one small file of its own, replaced whole, so that neither a power cut nor a damaged
journal mixes it up.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

REMEMBERED_COMMANDS = (
    64  # the newest; the city repeats a command only while it waits for its result
)


class SyncState:
    """Owner of the file *path*; with None it forgets everything when the process ends."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writable = True
        self._connection = 0
        self._failures = 0
        self._commands: list[str] = []
        if path is not None:
            self._read(path)

    @property
    def failures(self) -> int:
        """Connections that failed in a row."""
        return self._failures

    def set_failures(self, count: int) -> None:
        if count != self._failures:
            self._failures = count
            self._write()

    def next_connection(self) -> int:
        """Count one more connection and return its number; it is on the disk first."""
        self._connection += 1
        self._write()
        return self._connection

    def commands(self) -> list[str]:
        """The ids of the newest commands carried out."""
        return self._commands

    def keep_command(self, name: str) -> None:
        """Remember that the command *name* was carried out."""
        self._commands = [*self._commands, name][-REMEMBERED_COMMANDS:]
        self._write()

    def _read(self, path: Path) -> None:
        try:
            value = json.loads(path.read_bytes())
            connection, failures = int(value["connection"]), int(value["failures"])
            commands = [str(name) for name in value.get("commands", ())]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("sync state %s is unreadable (%s): beginning from 0 again", path, error)
            return
        self._connection, self._failures = max(0, connection), max(0, failures)
        self._commands = commands[-REMEMBERED_COMMANDS:]

    def _write(self) -> None:
        if self._path is None:
            return
        body = json.dumps(
            {
                "connection": self._connection,
                "failures": self._failures,
                "commands": self._commands,
            }
        )
        beside = self._path.with_suffix(".new")
        try:
            with beside.open("w", encoding="ascii") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            # A full disk must not keep events from leaving: only the jitter's memory suffers.
            if self._writable:
                log.warning("sync state %s cannot be written: %s", self._path, error)
            self._writable = False
        else:
            self._writable = True
