"""The protocol described for other programs: JSON Schema of every message, and AsyncAPI of all.

Made from the forms, kinds, commands and topics themselves. ``scripts/protocol-docs`` writes it to
``docs/``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agent.protocol.commands import COMMANDS, CommandSpec
from agent.protocol.consent import CONSENT, ENROLMENT_HEAD
from agent.protocol.control import (
    COMMAND_MESSAGE,
    CONFIG_MESSAGE,
    MAX_COMMAND_BYTES,
    REPORT,
    RESULT,
)
from agent.protocol.events.enrolment import ENROLMENT
from agent.protocol.events.kind import Kind
from agent.protocol.events.kinds import BY_WORD, KINDS
from agent.protocol.events.unknown import ITEM as UNKNOWN_ITEM
from agent.protocol.events.unknown import MAX_UNKNOWN_BYTES
from agent.protocol.forms import Form
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
from agent.protocol.messages import (
    ACK,
    BIRTH,
    COMPRESS_FROM_EVENTS,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    WILL,
)
from agent.protocol.signed import MAX_SIGNED_BYTES, SignedForm
from agent.protocol.specs import COMMAND_ID, DEVICE, Constant, Spec
from agent.protocol.topics import QOS, TOPICS, VERSION, Topic

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_JWS = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
_DEVICE = (
    "The device's one name: the CN of its certificate, its user name and its client id, as in"
    f" {DEVICE.pattern.pattern}."
)

# What ``Topic.messages`` name, but for batches and unsigned commands, which are put together.
MESSAGES: Mapping[str, Spec[Any] | SignedForm[Any]] = {
    "birth": BIRTH,
    "will": WILL,
    "ack": ACK,
    "command": COMMAND_MESSAGE,
    "command-result": RESULT,
    "settings": CONFIG_MESSAGE,
    "settings-report": REPORT,
    "hello": HELLO_MESSAGE,
    "want": WANT_MESSAGE,
    "head": HEAD_MESSAGE,
    "now": NOW_MESSAGE,
    "wrapped-keys": KEYS_MESSAGE,
    "part": PART_HEAD,
}
# What is sealed inside others, to a device or to the city, or is a line before binary content.
INSIDE: Mapping[str, Spec[Any]] = {
    "lost": LOST,
    "gallery-keys": GALLERY_KEYS,
    "record": RECORD_HEAD,
    "enrolment": ENROLMENT_HEAD,
    "consent": CONSENT,
}
UNKNOWN = "event-unknown"


def name_of(kind: Kind) -> str:
    """``event-stop-visit`` of ``StopVisitEvent``."""
    words = re.findall(r"[A-Z][a-z]+", kind.event.__name__)
    return "-".join(["event", *(word.lower() for word in words if word != "Event")])


def schemas(commands: Sequence[CommandSpec] = COMMANDS) -> dict[str, Schema]:
    """Every schema by its file's name without ending; they refer to each other as files do."""
    found = {name: spec.schema() for name, spec in INSIDE.items()}
    for name, message in MESSAGES.items():
        found[name] = (message.form if isinstance(message, SignedForm) else message).schema()
    events = {name_of(kind): _event(kind) for kind in KINDS} | {UNKNOWN: _of_later_versions()}
    found["batch"] = {
        **{"type": "array", "minItems": 1, "maxItems": MAX_BATCH_EVENTS},
        "items": {"anyOf": [{"$ref": f"{name}.json"} for name in (*events, "lost")]},
        "$comment": f"Refused also: over {MAX_BATCH_BYTES} bytes",
    }
    found["command"]["properties"]["command"] = {"enum": [spec.name for spec in commands]}
    found["command"]["allOf"] = [_arguments(spec) for spec in commands]
    found["unsigned-command"] = {"anyOf": [_unsigned(spec) for spec in commands if spec.unsigned]}
    return {
        name: {"$schema": DIALECT, **schema, "title": name}
        for name, schema in sorted((found | events).items())
    }


def asyncapi() -> dict[str, Any]:
    """The protocol as AsyncAPI 3.0, said from the device's side."""
    messages = {name: _message(name) for topic in TOPICS for name in topic.messages}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kaopass",
            "version": VERSION,
            "description": "Between a device and its city; docs/protocol.md says what it means.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_channel(topic): _channel_of(topic) for topic in TOPICS},
        "operations": {
            f"{_action(topic)}-{_channel(topic)}": _operation(topic) for topic in TOPICS
        },
        "components": {"messages": messages},
    }


def files() -> dict[str, str]:
    """All of it, by its path below ``docs``."""
    told = {f"schema/{name}.json": schema for name, schema in schemas().items()}
    told["asyncapi.json"] = asyncapi()
    return {
        path: json.dumps(content, ensure_ascii=False, indent=2) + "\n"
        for path, content in told.items()
    }


def _event(kind: Kind) -> Schema:
    told = kind.item.schema()
    told["properties"]["lost"] = False  # it would be taken for word that none comes
    if kind is not ENROLMENT:
        told["properties"]["sealed"] = False  # only an enrolment carries it
    return told


def _of_later_versions() -> Schema:
    told = UNKNOWN_ITEM.schema()
    told["properties"]["kind"]["not"] = {"enum": list(BY_WORD)}
    told["properties"]["lost"] = False
    beyond = f"Refused also: over {MAX_UNKNOWN_BYTES} bytes beside identity, kind and moment"
    return {**told, "$comment": beyond}


def _arguments(spec: CommandSpec) -> Schema:
    return {
        "if": {"properties": {"command": {"const": spec.name}}, "required": ["command"]},
        "then": {
            "description": spec.does,
            "properties": {"arguments": spec.arguments.schema()},
        },
    }


def _unsigned(spec: CommandSpec) -> Schema:
    envelope = {"command": Constant(spec.name), "id": COMMAND_ID}
    return {
        "allOf": [Form(dict, "unsigned command", envelope).schema(), spec.arguments.schema()],
        "$comment": f"Refused also: over {MAX_COMMAND_BYTES} bytes",
    }


def _action(topic: Topic) -> str:
    return "send" if topic.publisher == "device" else "receive"


def _channel(topic: Topic) -> str:
    return topic.path.replace("/", "-")


def _channel_of(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.of("{device}"),
        "description": topic.says,
        "parameters": {"device": {"description": _DEVICE}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages},
    }


def _operation(topic: Topic) -> dict[str, Any]:
    channel = f"#/channels/{_channel(topic)}"
    return {
        "action": _action(topic),
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in topic.messages],
        "bindings": {"mqtt": {"qos": QOS, "retain": topic.retained, "bindingVersion": "0.2.0"}},
    }


def _message(name: str) -> dict[str, Any]:
    message, schema = MESSAGES.get(name), {"$ref": f"schema/{name}.json"}
    if isinstance(message, SignedForm):
        usage = message.role.value.dotted_string
        return {
            "contentType": "application/jose",
            "description": f"A JWS in compact form, typ {message.typ}, {message.role.algorithm}, by"
            f" a certificate with the extended key usage {usage}; x-signed is its payload.",
            "payload": {"type": "string", "pattern": _JWS, "maxLength": MAX_SIGNED_BYTES},
            "x-signed": schema,
        }
    if message is PART_HEAD:
        return {
            "contentType": "application/octet-stream",
            "description": "One line of JSON, x-head, and the encrypted bytes behind it.",
            "payload": {"type": "string", "format": "binary"},
            "x-head": schema,
        }
    if name == "batch":
        packed = f"From {COMPRESS_FROM_EVENTS} items on it is compressed by zlib (RFC 1950)."
        return {"description": packed, "payload": schema}
    return {"payload": schema}
