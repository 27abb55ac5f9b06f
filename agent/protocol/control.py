"""Signed settings and commands, down, and what a device reports of itself, up.

::

    d/cfg  "kp1-cfg" COMMAND, retained  put settings in force if ``base`` is the version in force
                                        (compare and set)
    d/cmd  "kp1-cmd" COMMAND            do a command of ``commands``
    u/res  plain                        what became of it: received, done, failed, expired
    u/rep  plain, retained              which settings are in force

What goes up is plain: the broker lets nobody but the device itself write there. A device that was
never provisioned has nobody whose signature it could check (a demo, a bench, a first try). It takes
what ``commands`` allows unsigned, a replay, and every other device takes signed commands only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.base.errors import MessageError
from agent.protocol.commands import BY_NAME, COMMANDS, CommandSpec
from agent.protocol.fields import compact, parse
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.signed import Role, SignedForm
from agent.protocol.specs import (
    COMMAND_ID,
    DEVICE,
    Array,
    Choice,
    Constant,
    Integer,
    OpenObject,
    Text,
)

CONFIG, COMMAND = "kp1-cfg", "kp1-cmd"
STATES = ("received", "done", "failed", "expired")
MAX_ARGUMENTS_BYTES = 4_096
MAX_COMMAND_BYTES = 4_096  # unsigned
MAX_SETTINGS_BYTES = 32_768
MAX_RESULT_BYTES = 65_536
MAX_REPORT_BYTES = 65_536
MAX_REASON = 500
LONGEST_TTL_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Command:
    """Do something once, before ``issued_ms`` + ``ttl_seconds``.

    ``counter`` grows with every command to a device: a device that remembers the newest few ids
    refuses everything below them.
    """

    device: str
    id: str
    counter: int
    issued_ms: int
    ttl_seconds: int
    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> CommandSpec:
        return BY_NAME[self.command]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of the command ``id``; ``detail`` is JSON, ``reason`` why it failed."""

    id: str
    state: str
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """Settings for ``device``: {section: {key: value}} over its own file, replacing ``base``'s."""

    device: str
    version: int
    base: int
    settings: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SettingsReport:
    """What is in force: the settings' version, and why the newest one was not taken, if so."""

    settings_version: int
    refused_version: int = 0
    problems: tuple[str, ...] = ()


# Arguments are judged when the command's turn comes, so that a device answers what is wrong.
COMMAND_MESSAGE = SignedForm(
    COMMAND,
    Role.COMMAND,
    Form(
        Command,
        COMMAND,
        {
            "device": DEVICE,
            "id": COMMAND_ID,
            "counter": Integer(1),
            "issued": Integer(),
            "ttl": Integer(1, LONGEST_TTL_SECONDS),
            "command": Choice(tuple(BY_NAME)),
            "arguments": OpenObject(MAX_ARGUMENTS_BYTES),
        },
        names={"issued": "issued_ms", "ttl": "ttl_seconds"},
    ),
)
CONFIG_MESSAGE = SignedForm(
    CONFIG,
    Role.COMMAND,
    Form(
        Config,
        CONFIG,
        {
            "device": DEVICE,
            "version": Integer(1),
            "base": Integer(),
            "settings": OpenObject(MAX_SETTINGS_BYTES, of_objects=True),
        },
        checks=(CrossCheck("base", "not below version", lambda told: told.base < told.version),),
    ),
)
RESULT = Form(
    CommandResult,
    "result",
    {
        "id": COMMAND_ID,
        "state": Choice(STATES),
        "reason": Text(0, MAX_REASON),
        "detail": OpenObject(MAX_RESULT_BYTES),
    },
    most_bytes=MAX_RESULT_BYTES,
)
REPORT = Form(
    SettingsReport,
    "report",
    {
        "settings_version": Integer(),
        "refused_version": Integer(),
        "problems": Array(Text(1, 1_000), 100),
    },
    most_bytes=MAX_REPORT_BYTES,
)


def unsigned_forms(commands: Sequence[CommandSpec]) -> dict[str, Form[dict[str, Any]]]:
    """Those of *commands* that are taken unsigned, as they are sent then."""
    return {
        spec.name: Form(
            dict,
            "unsigned command",
            {"command": Constant(spec.name), "id": COMMAND_ID, **spec.arguments.fields},
            most_bytes=MAX_COMMAND_BYTES,
        )
        for spec in commands
        if spec.unsigned
    }


UNSIGNED = unsigned_forms(COMMANDS)
sign_command, read_command = COMMAND_MESSAGE.sign, COMMAND_MESSAGE.read
sign_config, read_config = CONFIG_MESSAGE.sign, CONFIG_MESSAGE.read
encode_result, decode_result = RESULT.encode, RESULT.decode
encode_report, decode_report = REPORT.encode, REPORT.decode


def encode_unsigned(command: Command) -> bytes:
    """*command* as a city without a signing key publishes it."""
    return compact({"command": command.command, "id": command.id, **command.arguments})


def read_unsigned(payload: bytes, device: str) -> Command:
    """Raises MessageError unless *payload* is a whole command that is taken unsigned."""
    value = parse(payload, MAX_COMMAND_BYTES, "unsigned command")
    name = value.get("command") if isinstance(value, dict) else None
    spec = BY_NAME.get(name) if isinstance(name, str) else None
    if spec is None or not spec.unsigned:
        raise MessageError(f"unsigned command: only {', '.join(UNSIGNED)} is taken")
    command_id = COMMAND_ID.read(value.get("id"), "id")
    arguments = spec.arguments.write(spec.arguments.read(value))
    return Command(device, command_id, 0, 0, 0, spec.name, arguments)
