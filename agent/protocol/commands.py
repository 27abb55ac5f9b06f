"""Every command a device can be given: the one table that device, city, CLI and pages derive from.

A new command is an entry here and a handler in ``wiring``; the CLI offers it, its schema is made
from it, and the tests ask for its line in docs/protocol.md. How commands travel is in ``control``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import EPOCH, Flag, Hexadecimal, Integer, Spec

MAX_REPLAY = 1_000_000  # numbers in one command; a journal's quota holds fewer


@dataclass(frozen=True, slots=True)
class Argument(Spec[Any]):
    """One argument of a command: what it must be, and what it is, for who gives it by hand."""

    item: Spec[Any]
    says: str
    metavar: str = "VALUE"

    def read(self, value: Any, what: str) -> Any:
        return self.item.read(value, what)

    def write(self, value: Any) -> Any:
        return self.item.write(value)

    def schema(self) -> dict[str, Any]:
        return {**self.item.schema(), "description": self.says}


_NO_ARGUMENTS: Form[dict[str, Any]] = Form(dict, "arguments", {}, closed=True)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command.

    ``does`` says what it does, and the ``detail`` of its answer. ``timeless``: it does no harm
    late, so a device that does not know the time does it. ``noted``: it changes something, so both
    sides write it to their audit log. ``unsigned``: a device that was never provisioned takes it.
    ``ends_agent``: it is recorded before it is done, and its "done" said by the agent that has come
    back. ``ordered_by`` is the CLI's own command for it, where it is not ``city command``.
    """

    name: str
    does: str
    arguments: Form[Any] = field(default_factory=lambda: _NO_ARGUMENTS)
    timeless: bool = False
    noted: bool = False
    unsigned: bool = False
    ends_agent: bool = False
    ordered_by: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """Send *first* to *last* of *epoch* again; with *refused* also what was quarantined."""

    epoch: str
    first: int
    last: int
    refused: bool = False


REPLAY = Form(
    Replay,
    "replay",
    {"epoch": EPOCH, "from": Integer(1), "to": Integer(1), "refused": Flag()},
    names={"from": "first", "to": "last"},
    checks=(
        CrossCheck(
            "to",
            f"not from `from` on, {MAX_REPLAY} numbers at most",
            lambda replay: replay.first <= replay.last < replay.first + MAX_REPLAY,
        ),
    ),
)
read_replay, replay_arguments = REPLAY.read, REPLAY.write

REVOCATION: Form[dict[str, Any]] = Form(
    dict,
    "revocation",
    {
        "key": Argument(
            Hexadecimal(32), "SHA-256 of `kaopass/1 resident`, a zero byte, the id in NFC", "HEX"
        )
    },
)

COMMANDS = (
    CommandSpec("ping", "nothing; that it answers is the answer", timeless=True),
    CommandSpec("status", "what `kaopass status --json` says", timeless=True),
    CommandSpec(
        "diagnostics", "versions, disk, memory, temperatures, load, camera, journal counts"
    ),
    # Removes nothing: whoever forges it unsigned gains no more than traffic.
    CommandSpec(
        "replay",
        'sends events again; with `refused` also those once refused; `{"count"}`',
        arguments=REPLAY,
        timeless=True,
        unsigned=True,
        ordered_by="kaopass city replay",
    ),
    CommandSpec(
        "reload",
        "begins anew in the process, with the settings as they are now",
        noted=True,
        ends_agent=True,
    ),
    CommandSpec(
        "restart",
        "ends the process for systemd to start it again",
        noted=True,
        ends_agent=True,
    ),
    CommandSpec(
        "revoke-now",
        'destroys all that is held of a resident here; `{"found"}`',
        arguments=REVOCATION,
        timeless=True,
        noted=True,
    ),
)
BY_NAME: Mapping[str, CommandSpec] = {spec.name: spec for spec in COMMANDS}
NOTED = frozenset(spec.name for spec in COMMANDS if spec.noted)
