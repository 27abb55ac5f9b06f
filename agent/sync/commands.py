"""What the city may ask of a device, and the device's answer: for now only ``replay``.

Commands are not signed yet. That is why ``replay`` is the only one there is: it sends again what
the journal holds and removes nothing, so whoever forges it gains no more than traffic. The check
of a signature belongs at the head of ``decode_command``, before anything in it is looked at; more
powerful commands may come only after it.

``d/cmd``: ``{"command": "replay", "id", "epoch", "from", "to", "refused"}``. The device sends
events *from* to *to* again, and in place of those it will never send a word that says so
(``messages.Lost``), so that every number asked for is answered. With ``refused`` it also offers
again what the city once refused. ``u/res``: ``{"id", "state", "count"}``, state "done" or "failed".
A command is carried out once for its id; asked again, only the answer is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import MessageError
from agent.sync.messages import ack_topic
from agent.wire.fields import (
    compact,
    epoch_name,
    fields,
    integer,
    name,
    parse,
)

MAX_COMMAND_BYTES = 4_096
MAX_REPLAY = 1_000_000  # numbers in one command; a journal's quota holds fewer

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_STATES = ("done", "failed")


@dataclass(frozen=True, slots=True)
class Replay:
    """Send *first* to *last* of *epoch* again; with *refused* also what was quarantined."""

    id: str
    epoch: str
    first: int
    last: int
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the command *id*; ``count`` events go out again."""

    id: str
    state: str
    count: int = 0


def command_topic(device: str) -> str:
    """Commands, down."""
    return f"kp1/{device}/d/cmd"


def result_topic(device: str) -> str:
    """Results of commands, up."""
    return f"kp1/{device}/u/res"


def down_topics(device: str) -> list[str]:
    """Everything a device listens to."""
    return [ack_topic(device), command_topic(device)]


def encode_replay(replay: Replay) -> bytes:
    """The command as the city publishes it."""
    return compact(
        {
            "command": "replay",
            "id": replay.id,
            "epoch": replay.epoch,
            "from": replay.first,
            "to": replay.last,
            "refused": replay.refused,
        }
    )


def decode_command(payload: bytes) -> Replay:
    """Raises MessageError unless *payload* is a whole command that this version knows."""
    value = fields(
        parse(payload, MAX_COMMAND_BYTES, "command"),
        ("command", "id", "epoch", "from", "to", "refused"),
        "command",
    )
    if value["command"] != "replay":
        raise MessageError("command: only replay is known here")
    if not isinstance(value["refused"], bool):
        raise MessageError("command: refused must be true or false")
    first, last = integer(value["from"], "from", 1), integer(value["to"], "to", 1)
    if not first <= last < first + MAX_REPLAY:
        raise MessageError(f"command: {first} to {last} is no range of at most {MAX_REPLAY}")
    return Replay(
        name(value["id"], "id", _ID), epoch_name(value["epoch"]), first, last, value["refused"]
    )


def encode_result(result: Result) -> bytes:
    """The answer as the device publishes it."""
    return compact({"id": result.id, "state": result.state, "count": result.count})


def decode_result(payload: bytes) -> Result:
    """Raises MessageError unless *payload* is a whole result."""
    value = fields(parse(payload, MAX_COMMAND_BYTES, "result"), ("id", "state", "count"), "result")
    if value["state"] not in _STATES:
        raise MessageError(f"result: state is not one of {', '.join(_STATES)}")
    return Result(name(value["id"], "id", _ID), value["state"], integer(value["count"], "count"))


class Executed:
    """Carries each command out once for its id, over restarts, and remembers the newest."""

    def __init__(self, known: Callable[[], list[str]], keep: Callable[[str], None]) -> None:
        """*known* lists the ids carried out before; *keep* puts one more on the disk."""
        self._known = known
        self._keep = keep

    def once(self, command: Replay, act: Callable[[Replay], int]) -> Result:
        """The result of *command*; *act* is called unless it was carried out before.

        An id is kept after the deed: cut off between the two, ``replay`` is done twice, which
        changes nothing that once would not. Raises what *act* raises but for a MessageError,
        which is the result "failed".
        """
        if command.id in self._known():
            return Result(command.id, "done")
        try:
            count = act(command)
        except MessageError:
            return Result(command.id, "failed")
        self._keep(command.id)
        return Result(command.id, "done", count)
