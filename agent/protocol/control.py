"""Signed settings and commands, down, and what a device reports of itself, up.

::

    d/cfg  "kp1-cfg" COMMAND, retained  {device, version, base, settings}: put *settings* in force
                                        if ``base`` is the version in force (compare and set)
    d/cmd  "kp1-cmd" COMMAND            {device, id, counter, issued, ttl, command, arguments}
    u/res  plain                        {id, state, ...}: received, done, failed, expired
    u/rep  plain, retained              {settings, problems, ...}: what is in force

What goes up is plain: the broker lets nobody but the device itself write there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.base.errors import MessageError
from agent.protocol.fields import (
    array,
    choice,
    compact,
    fields,
    integer,
    name,
    parse,
    text,
)
from agent.protocol.signed import Role, Signer, Trust

CONFIG, COMMAND = "kp1-cfg", "kp1-cmd"
COMMANDS = ("ping", "status", "replay", "diagnostics", "reload", "revoke-now", "restart")
STATES = ("received", "done", "failed", "expired")
MAX_ARGUMENTS_BYTES = 4_096
MAX_SETTINGS_BYTES = 32_768
MAX_RESULT_BYTES = 65_536
MAX_REPORT_BYTES = 65_536
LONGEST_TTL_SECONDS = 30 * 86_400
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


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


@dataclass(frozen=True, slots=True)
class Outcome:
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
class Report:
    """What is in force: the settings' version, and why the newest one was not taken, if so."""

    settings_version: int
    refused_version: int = 0
    problems: tuple[str, ...] = ()


def command_topic(device: str) -> str:
    return f"kp1/{device}/d/cmd"


def config_topic(device: str) -> str:
    return f"kp1/{device}/d/cfg"


def result_topic(device: str) -> str:
    return f"kp1/{device}/u/res"


def report_topic(device: str) -> str:
    return f"kp1/{device}/u/rep"


def sign_command(command: Command, signer: Signer) -> bytes:
    return signer.sign(
        COMMAND,
        {
            "device": command.device,
            "id": command.id,
            "counter": command.counter,
            "issued": command.issued_ms,
            "ttl": command.ttl_seconds,
            "command": command.command,
            "arguments": dict(command.arguments),
        },
    )


def read_command(message: bytes, trust: Trust, device: str, *, wall_ms: int) -> Command:
    """Raises MessageError unless this town signed it for *device*. Says nothing of its time."""
    signed = trust.check(message, COMMAND, Role.COMMAND, wall_ms=wall_ms)
    wanted = ("device", "id", "counter", "issued", "ttl", "command", "arguments")
    value = fields(signed.payload, wanted, COMMAND)
    if value["device"] != device:
        raise MessageError(f"{COMMAND}: it is for another device")
    return Command(
        device=device,
        id=name(value["id"], "id", _ID),
        counter=integer(value["counter"], "counter", 1),
        issued_ms=integer(value["issued"], "issued"),
        ttl_seconds=integer(value["ttl"], "ttl", 1, LONGEST_TTL_SECONDS),
        command=choice(value["command"], "command", COMMANDS),
        arguments=_object(value["arguments"], "arguments", MAX_ARGUMENTS_BYTES),
    )


def encode_outcome(outcome: Outcome) -> bytes:
    return compact(
        {
            "id": outcome.id,
            "state": outcome.state,
            "reason": outcome.reason,
            "detail": dict(outcome.detail),
        }
    )


def decode_outcome(payload: bytes) -> Outcome:
    """Raises MessageError."""
    value = fields(
        parse(payload, MAX_RESULT_BYTES, "result"), ("id", "state", "reason", "detail"), "result"
    )
    return Outcome(
        id=name(value["id"], "id", _ID),
        state=choice(value["state"], "state", STATES),
        reason=text(value["reason"], "reason", 0, 500),
        detail=_object(value["detail"], "detail", MAX_RESULT_BYTES),
    )


def sign_config(config: Config, signer: Signer) -> bytes:
    return signer.sign(
        CONFIG,
        {
            "device": config.device,
            "version": config.version,
            "base": config.base,
            "settings": {section: dict(values) for section, values in config.settings.items()},
        },
    )


def read_config(message: bytes, trust: Trust, device: str, *, wall_ms: int) -> Config:
    """Raises MessageError unless this town signed it for *device*; values are not judged here."""
    signed = trust.check(message, CONFIG, Role.COMMAND, wall_ms=wall_ms)
    value = fields(signed.payload, ("device", "version", "base", "settings"), CONFIG)
    if value["device"] != device:
        raise MessageError(f"{CONFIG}: it is for another device")
    settings = _object(value["settings"], "settings", MAX_SETTINGS_BYTES)
    if not all(isinstance(section, dict) for section in settings.values()):
        raise MessageError(f"{CONFIG}: settings are objects by section")
    version = integer(value["version"], "version", 1)
    return Config(device, version, integer(value["base"], "base", 0, version - 1), settings)


def encode_report(report: Report) -> bytes:
    return compact(
        {
            "settings_version": report.settings_version,
            "refused_version": report.refused_version,
            "problems": list(report.problems),
        }
    )


def decode_report(payload: bytes) -> Report:
    """Raises MessageError."""
    value = fields(
        parse(payload, MAX_REPORT_BYTES, "report"),
        ("settings_version", "refused_version", "problems"),
        "report",
    )
    return Report(
        settings_version=integer(value["settings_version"], "settings_version"),
        refused_version=integer(value["refused_version"], "refused_version"),
        problems=tuple(
            text(problem, "problems", 1, 1_000)
            for problem in array(value["problems"], 100, "problems")
        ),
    )


def _object(value: Any, what: str, most: int) -> dict[str, Any]:
    found = fields(value, (), what)
    if len(json.dumps(found)) > most:
        raise MessageError(f"{what}: at most {most} bytes are read")
    return found
