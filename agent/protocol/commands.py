"""``replay``, the one command that a device also takes unsigned, and what a device listens to.

A device that was never provisioned has nobody whose signature it could check (a demo, a bench, a
first try). It takes ``replay`` alone, which sends again what the journal holds and removes nothing,
so whoever forges it gains no more than traffic. Every other device takes signed commands only
(``agent.protocol.control``); a replay's arguments are the same there.

Unsigned: ``{"command": "replay", "id", "epoch", "from", "to", "refused"}``. The device sends events
*from* to *to* again, and in place of those it will never send a word that says so
(``items.Lost``), so that every number asked for is answered. With ``refused`` it also offers again
what the city once refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.protocol.control import command_topic
from agent.protocol.fields import compact, epoch_name, fields, flag, integer, name, parse
from agent.protocol.messages import ack_topic

MAX_COMMAND_BYTES = 4_096
MAX_REPLAY = 1_000_000  # numbers in one command; a journal's quota holds fewer

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Replay:
    """Send *first* to *last* of *epoch* again; with *refused* also what was quarantined."""

    epoch: str
    first: int
    last: int
    refused: bool = False


def down_topics(device: str) -> list[str]:
    """Everything a device listens to without further duties."""
    return [ack_topic(device), command_topic(device)]


def replay_arguments(replay: Replay) -> dict[str, Any]:
    """*replay* as a command's arguments."""
    return {
        "epoch": replay.epoch,
        "from": replay.first,
        "to": replay.last,
        "refused": replay.refused,
    }


def read_replay(arguments: Mapping[str, Any]) -> Replay:
    """Raises MessageError unless *arguments* are whole."""
    value = fields(arguments, ("epoch", "from", "to", "refused"), "replay")
    first, last = integer(value["from"], "from", 1), integer(value["to"], "to", 1)
    if not first <= last < first + MAX_REPLAY:
        raise MessageError(f"replay: {first} to {last} is no range of at most {MAX_REPLAY}")
    return Replay(epoch_name(value["epoch"]), first, last, flag(value["refused"], "refused"))


def encode_unsigned(command_id: str, replay: Replay) -> bytes:
    """The command as a city without a signing key publishes it."""
    return compact({"command": "replay", "id": command_id, **replay_arguments(replay)})


def decode_unsigned(payload: bytes) -> tuple[str, Replay]:
    """(id, replay). Raises MessageError unless *payload* is a whole unsigned replay."""
    value = fields(parse(payload, MAX_COMMAND_BYTES, "command"), ("command", "id"), "command")
    if value["command"] != "replay":
        raise MessageError("command: only replay is taken unsigned")
    return name(value["id"], "id", _ID), read_replay(value)
