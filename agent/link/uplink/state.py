"""What sync remembers over restarts: connections begun, failures in a row, commands answered.

It lives in one small file of its own, replaced whole, so that neither a power cut nor a damaged
journal mixes it up.
"""

from __future__ import annotations

import json
import logging
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from agent.base.wholefile import write_file

log = logging.getLogger(__name__)

REMEMBERED_COMMANDS = 64  # the newest; older than these a command is refused by its counter


@dataclass(frozen=True, slots=True)
class Answered:
    """A command and what was answered, or "received" while its outcome is still to come."""

    id: str
    counter: int
    command: str
    state: str
    reason: str = ""


class SyncState:
    """Owner of the file *path*; with None it forgets everything when the process ends."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._writable = True
        self._connection = 0
        self._failures = 0
        self._commands: dict[str, Answered] = {}
        self._floor = 0
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

    @property
    def floor(self) -> int:
        """The greatest counter among the commands forgotten by now; 0 when none is."""
        return self._floor

    def answered(self, name: str) -> Answered | None:
        """What became of the command *name*, if it is remembered."""
        return self._commands.get(name)

    def begun(self) -> list[Answered]:
        """Commands that were begun and have no outcome yet."""
        return [each for each in self._commands.values() if each.state == "received"]

    def remember(self, answered: Answered) -> bool:
        """Keep it among the newest; False if it could not be put on the disk."""
        self._commands.pop(answered.id, None)
        self._commands[answered.id] = answered
        while len(self._commands) > REMEMBERED_COMMANDS:
            oldest = min(self._commands.values(), key=lambda each: each.counter)
            del self._commands[oldest.id]
            self._floor = max(self._floor, oldest.counter)
        return self._write()

    def _read(self, path: Path) -> None:
        try:
            value = json.loads(path.read_bytes())
            connection, failures = int(value["connection"]), int(value["failures"])
            commands = [_answered(told) for told in value.get("commands", ())]
            floor = int(value.get("floor", 0))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("sync state %s is unreadable (%s): beginning from 0 again", path, error)
            return
        self._connection, self._failures = max(0, connection), max(0, failures)
        self._commands = {each.id: each for each in commands[-REMEMBERED_COMMANDS:]}
        self._floor = max(0, floor)

    def _write(self) -> bool:
        if self._path is None:
            return True
        body = json.dumps(
            {
                "connection": self._connection,
                "failures": self._failures,
                "commands": [astuple(each) for each in self._commands.values()],
                "floor": self._floor,
            }
        )
        try:
            write_file(self._path, body.encode("ascii"))
        except OSError as error:
            # A full disk must not keep events from leaving: only the jitter's memory suffers.
            if self._writable:
                log.warning("sync state %s cannot be written: %s", self._path, error)
            self._writable = False
        else:
            self._writable = True
        return self._writable


def _answered(told: Any) -> Answered:
    if isinstance(told, str):  # as it was when a replay was all there was
        return Answered(told, 0, "replay", "done")
    name, counter, command, state, reason = told
    return Answered(str(name), int(counter), str(command), str(state), str(reason))
