"""The protocol described for others' tools: JSON Schemas of its messages, and an AsyncAPI document.

All of it is told by what the code itself reads and writes by; ``scripts/protocol-docs`` writes the
files in ``docs``.
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
from agent.protocol.events.kinds import BY_WORD, KINDS
from agent.protocol.events.unknown import MAX_UNKNOWN_BYTES, UNKNOWN_ITEM
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

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_FORMAT = "application/schema+json;version=draft-2020-12"

_EVENTS = {re.sub(r"(?<!^)(?=[A-Z])", "-", k.event.__name__).lower(): k for k in KINDS}
# What is said on the topics, but for batches and commands, which are put together below.
MESSAGES: Mapping[str, Spec[Any] | SignedForm[Any]] = {
    "ack": ACK,
    "birth": BIRTH,
    "will": WILL,
    "command": COMMAND_MESSAGE,
    "command-result": RESULT,
    "settings": CONFIG_MESSAGE,
    "settings-report": REPORT,
    "head": HEAD_MESSAGE,
    "hello": HELLO_MESSAGE,
    "want": WANT_MESSAGE,
    "now": NOW_MESSAGE,
    "wrapped-keys": KEYS_MESSAGE,
    "part": PART_HEAD,
}
_ITEMS = (*_EVENTS, "unknown-event", "lost")
# What others carry: in batches, sealed, or as the line before binary content.
INSIDE: Mapping[str, Spec[Any]] = {
    "unknown-event": UNKNOWN_ITEM,
    "lost": LOST,
    "consent": CONSENT,
    "enrolment": ENROLMENT_HEAD,
    "gallery-keys": GALLERY_KEYS,
    "record": RECORD_HEAD,
}
_REMARKS = {
    "batch": f"From {COMPRESS_FROM_EVENTS} items on it is compressed by zlib (RFC 1950): its first"
    " byte is not `[` then.",
    "part": "A line of JSON, as in the schema, a newline, and the bytes.",
    "unsigned-command": "For a device that was never provisioned, and for no other.",
}


def schemas(commands: Sequence[CommandSpec] = COMMANDS) -> dict[str, dict[str, Any]]:
    """A JSON Schema of every message by its name; *commands* are those there are."""
    found = {name: spec.schema() for name, spec in INSIDE.items()}
    for name, message in MESSAGES.items():
        found[name] = (message.form if isinstance(message, SignedForm) else message).schema()
    for name, kind in _EVENTS.items():
        found[name] = kind.item.schema()
        if kind is not ENROLMENT:
            found[name]["properties"]["sealed"] = False
    found["unknown-event"]["properties"]["kind"]["not"] = {"enum": list(BY_WORD)}
    found["unknown-event"]["$comment"] = (
        f"Refused also: over {MAX_UNKNOWN_BYTES} bytes beside kind and moment"
    )
    for name in (*_EVENTS, "unknown-event"):
        found[name]["properties"]["lost"] = False
    found["batch"] = {
        **{"type": "array", "minItems": 1, "maxItems": MAX_BATCH_EVENTS},
        "items": {"anyOf": [{"$ref": f"{name}.json"} for name in _ITEMS]},
        "$comment": f"Refused also: at most {MAX_BATCH_BYTES} bytes",
    }
    found["command"]["properties"]["command"] = {"enum": [spec.name for spec in commands]}
    found["command"]["allOf"] = [_arguments(spec) for spec in commands]
    unsigned = [_unsigned(spec) for spec in commands if spec.unsigned]
    found["unsigned-command"] = {"anyOf": unsigned}
    return {
        name: {"$schema": DIALECT, **schema, "title": name}
        for name, schema in sorted(found.items())
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of a device."""
    said = {name: topic for topic in TOPICS for name in topic.messages}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kaopass: a device and its city",
            "version": VERSION,
            "license": {"name": "Apache-2.0"},
            "description": "As a device sees it; docs/protocol.md says what it means.",
        },
        "defaultContentType": "application/json",
        "channels": {_name(topic): _channel(topic) for topic in TOPICS},
        "operations": {f"{_action(topic)}-{_name(topic)}": _operation(topic) for topic in TOPICS},
        "components": {"messages": {name: _message(name) for name in said}},
    }


def files() -> dict[str, str]:
    """All of it, by its path below ``docs``."""
    told = {f"schema/{name}.json": schema for name, schema in schemas().items()}
    told["asyncapi.json"] = asyncapi()
    return {path: json.dumps(content, indent=2) + "\n" for path, content in told.items()}


def _arguments(spec: CommandSpec) -> dict[str, Any]:
    return {
        "if": {"properties": {"command": {"const": spec.name}}, "required": ["command"]},
        "then": {
            "description": spec.does,
            "properties": {"arguments": spec.arguments.schema()},
        },
    }


def _unsigned(spec: CommandSpec) -> dict[str, Any]:
    envelope = {"command": Constant(spec.name), "id": COMMAND_ID}
    return {
        "allOf": [Form(dict, "unsigned command", envelope).schema(), spec.arguments.schema()],
        "$comment": f"Refused also: at most {MAX_COMMAND_BYTES} bytes",
    }


def _name(topic: Topic) -> str:
    return topic.path.replace("/", "-")


def _action(topic: Topic) -> str:
    return "send" if topic.publisher == "device" else "receive"


def _channel(topic: Topic) -> dict[str, Any]:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages}
    return {
        "address": topic.of("{device}"),
        "description": f"From the {topic.publisher} to the {topic.subscriber}: {topic.says}.",
        "messages": messages,
        "parameters": {
            "device": {
                "description": "The CN of the device's certificate, its MQTT user name and its"
                f" client id: {DEVICE.pattern.pattern}"
            }
        },
    }


def _operation(topic: Topic) -> dict[str, Any]:
    channel = f"#/channels/{_name(topic)}"
    mqtt = {"qos": QOS, "retain": topic.retained, "bindingVersion": "0.2.0"}
    return {
        "action": _action(topic),
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{name}"} for name in topic.messages],
        "bindings": {"mqtt": mqtt},
    }


def _message(name: str) -> dict[str, Any]:
    message = MESSAGES.get(name)
    remarks = [_REMARKS[name]] if name in _REMARKS else []
    content = "application/octet-stream" if name == "part" else "application/json"
    if isinstance(message, SignedForm):
        content = "application/jose"
        remarks.append(
            f"A JWS in compact form of at most {MAX_SIGNED_BYTES} bytes, `typ` {message.typ},"
            f" {message.role.algorithm}, signed with a certificate whose extended key usage is"
            f" {message.role.value.dotted_string}; the schema is of its payload."
        )
    return {
        "contentType": content,
        **({"description": " ".join(remarks)} if remarks else {}),
        "payload": {"schemaFormat": _FORMAT, "schema": {"$ref": f"schema/{name}.json"}},
    }
