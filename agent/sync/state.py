"""The two numbers sync remembers over restarts: connections begun, and failures in a row.

They live in one small file of their own, replaced whole, so that neither a power cut nor a
damaged journal mixes them up.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class SyncState:
    """Owner of the file *path*; with None it forgets everything when the process ends."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writable = True
        self._connection = 0
        self._failures = 0
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

    def _read(self, path: Path) -> None:
        try:
            value = json.loads(path.read_bytes())
            connection, failures = int(value["connection"]), int(value["failures"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("sync state %s is unreadable (%s): counting from 0 again", path, error)
            return
        self._connection, self._failures = max(0, connection), max(0, failures)

    def _write(self) -> None:
        if self._path is None:
            return
        body = json.dumps({"connection": self._connection, "failures": self._failures})
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
