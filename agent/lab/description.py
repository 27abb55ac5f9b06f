"""The protocol described for other programs: JSON Schema of every message, and AsyncAPI of all.

Made from the forms, kinds, commands and topics themselves. ``scripts/protocol-docs`` writes it to
``docs/``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.protocol.commands import COMMANDS
from agent.protocol.consent import CONSENT, ENROLMENT_HEAD
from agent.protocol.control import COMMAND_MESSAGE, CONFIG_MESSAGE, REPORT, RESULT, UNSIGNED
from agent.protocol.events.enrolment import ENROLMENT
from agent.protocol.events.kind import Kind
from agent.protocol.events.kinds import BY_WORD, KINDS
from agent.protocol.events.unknown import ITEM as UNKNOWN_ITEM
from agent.protocol.galleries.bodies import PART_HEAD
from agent.protocol.galleries.messages import (
    HEAD_MESSAGE,
    HELLO_MESSAGE,
    KEYS_MESSAGE,
    NOW_MESSAGE,
    WANT_MESSAGE,
)
from agent.protocol.galleries.records import RECORD_HEAD
from agent.protocol.hpke import GALLERY_KEYS
from agent.protocol.items import LOST
from agent.protocol.messages import ACK, BIRTH, MAX_BATCH_EVENTS, WILL
from agent.protocol.signed import SignedForm
from agent.protocol.topics import QOS, TOPICS, Topic

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_JWS = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
_DEVICE = "The device's one name: the CN of its certificate, its user name and its client id."


@dataclass(frozen=True, slots=True)
class Described:
    """One message: the schema of its JSON, and how that JSON travels.

    ``typ`` is the signed message's type, empty for a plain one. ``tail``: the JSON is a first line,
    behind which come bytes.
    """

    says: str
    schema: Schema
    typ: str = ""
    tail: bool = False


def name_of(kind: Kind) -> str:
    """``event-stop-visit`` of ``StopVisitEvent``."""
    words = re.findall(r"[A-Z][a-z]+", kind.event.__name__)
    return "-".join(["event", *(word.lower() for word in words if word != "Event")])


def _signed(says: str, message: SignedForm[Any]) -> Described:
    return Described(says, message.form.schema(), message.typ)


def _command() -> Described:
    told = COMMAND_MESSAGE.form.schema()
    told["allOf"] = [
        {
            "if": {"properties": {"command": {"const": spec.name}}, "required": ["command"]},
            "then": {"properties": {"arguments": spec.arguments.schema()}},
        }
        for spec in COMMANDS
    ]
    return Described("do something once, in time", told, COMMAND_MESSAGE.typ)


def _event(kind: Kind) -> Schema:
    told = kind.item.schema()
    if kind is not ENROLMENT:
        told["properties"]["sealed"] = False  # only an enrolment carries it
    return {**told, "title": name_of(kind)}


def _of_later_versions() -> Schema:
    told = UNKNOWN_ITEM.schema()
    told["properties"]["kind"]["not"] = {"enum": list(BY_WORD)}
    return {**told, "title": "event-unknown"}


EVENTS: Mapping[str, Schema] = {
    **{name_of(kind): _event(kind) for kind in KINDS},
    "event-unknown": _of_later_versions(),
}
LOST_SCHEMA = LOST.schema()
BATCH: Schema = {
    "title": "batch",
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BATCH_EVENTS,
    "items": {"anyOf": [{"$ref": f"{name}.json"} for name in (*EVENTS, "lost")]},
}
# What ``Topic.messages`` name.
MESSAGES: Mapping[str, Described] = {
    "batch": Described("events and words that none come; zlib from ten on", BATCH),
    "birth": Described("a device is there, and what its journal holds", BIRTH.schema()),
    "will": Described("a device is gone", WILL.schema()),
    "ack": Described("what the city has committed", ACK.schema()),
    "command": _command(),
    "unsigned-command": Described(
        "what a device that was never provisioned takes",
        {"title": "unsigned command", "oneOf": [form.schema() for form in UNSIGNED.values()]},
    ),
    "command-result": Described("what became of a command", RESULT.schema()),
    "settings": _signed("settings, if the version they lie on is in force", CONFIG_MESSAGE),
    "settings-report": Described("which settings are in force", REPORT.schema()),
    "hello": _signed("a device says what it has of a gallery", HELLO_MESSAGE),
    "want": _signed("a device asks for bodies", WANT_MESSAGE),
    "head": _signed("a gallery's newest version", HEAD_MESSAGE),
    "now": _signed("that a version is the newest", NOW_MESSAGE),
    "wrapped-keys": _signed("a gallery's keys, sealed to the device", KEYS_MESSAGE),
    "part": Described("part of an encrypted body", PART_HEAD.schema(), tail=True),
}

# What is sealed inside others: to a device, or to the city.
SEALED: Mapping[str, Schema] = {
    "gallery-keys": GALLERY_KEYS.schema(),
    "record": RECORD_HEAD.schema(),
    "enrolment": ENROLMENT_HEAD.schema(),
    "consent": CONSENT.schema(),
}


def schemas() -> dict[str, Schema]:
    """Every schema by its file's name without ending; they refer to each other as files do."""
    found = {name: each.schema for name, each in MESSAGES.items()}
    found |= {**EVENTS, "lost": LOST_SCHEMA, **SEALED}
    return {name: {"$schema": DIALECT, **schema} for name, schema in sorted(found.items())}


def asyncapi(version: str) -> dict[str, Any]:
    """The protocol as AsyncAPI 3.0, said from the device's side; *version* of the program."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kaopass",
            "version": version,
            "description": "Between a device and its city; docs/protocol.md says what it means.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel(topic): _channel_of(topic) for topic in TOPICS},
        "operations": {_operation(topic): _operation_of(topic) for topic in TOPICS},
        "components": {"messages": {name: _message(name) for name in MESSAGES}},
    }


def _channel(topic: Topic) -> str:
    return topic.path.replace("/", "-")


def _operation(topic: Topic) -> str:
    return ("send-" if topic.publisher == "device" else "receive-") + _channel(topic)


def _channel_of(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.of("{device}"),
        "description": topic.says,
        "parameters": {"device": {"description": _DEVICE}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages},
    }


def _operation_of(topic: Topic) -> dict[str, Any]:
    return {
        "action": "send" if topic.publisher == "device" else "receive",
        "channel": {"$ref": f"#/channels/{_channel(topic)}"},
        "bindings": {"mqtt": {"qos": QOS, "retain": topic.retained, "bindingVersion": "0.2.0"}},
    }


def _message(name: str) -> dict[str, Any]:
    told, schema = MESSAGES[name], {"$ref": f"schema/{name}.json"}
    if told.typ:
        return {
            "summary": told.says,
            "contentType": "application/jose",
            "description": f"A JWS in compact form of type {told.typ}; x-signed is its payload.",
            "payload": {"type": "string", "pattern": _JWS},
            "x-signed": schema,
        }
    if told.tail:
        return {
            "summary": told.says,
            "contentType": "application/octet-stream",
            "description": "One line of JSON, x-head, and the encrypted bytes behind it.",
            "payload": {"type": "string", "format": "binary"},
            "x-head": schema,
        }
    return {"summary": told.says, "payload": schema}
