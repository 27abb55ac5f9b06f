"""How the code reads each message of the protocol: the examples of the page, and spoilt ones."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from agent.lab.description import MESSAGES
from agent.protocol import control, hpke, items, messages
from agent.protocol.consent import ENROLMENT_HEAD, read_consent
from agent.protocol.galleries import bodies, records
from agent.protocol.galleries import messages as gallery
from agent.protocol.signed import Role, SignedForm, Signer
from tests.protocol.town import Town

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, Any]] = [
    (name, json.loads(text))
    for name, text in re.findall(r"<!-- example: ([\w-]+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)
]
DEVICE = "bus-7"
NOW_MS = time.time_ns() // 1_000_000

Reader = Callable[[Town, Any], Any]


@cache
def device_of(town: Town) -> Signer:
    return town.device(DEVICE)


def plain(decode: Callable[[bytes], Any]) -> Reader:
    return lambda _, value: decode(json.dumps(value).encode())


def event(_: Town, value: Any) -> Any:
    (item,) = messages.unpack(messages.pack([json.dumps(value).encode()]))
    return items.decode_item(item)


def signed(name: str, read: Callable[..., Any], *device: str) -> Reader:
    """*value* signed by who may, and read by *read*."""
    message = MESSAGES[name]
    assert isinstance(message, SignedForm)

    def reader(town: Town, value: Any) -> Any:
        signers = {Role.GALLERY: town.gallery, Role.COMMAND: town.command}
        signer = signers.get(message.role) or device_of(town)
        return read(signer.sign(message.typ, value), town.trust, *device, wall_ms=NOW_MS)

    return reader


def command(town: Town, value: Any) -> Any:
    """With its arguments, as when its turn comes."""
    found = signed("command", control.read_command, DEVICE)(town, value)
    found.spec.arguments.read(found.arguments)
    return found


READERS: dict[str, Reader] = {
    "ack": plain(messages.decode_ack),
    "birth": plain(messages.decode_state),
    "will": plain(messages.decode_state),
    "command": command,
    "unsigned-command": plain(lambda payload: control.read_unsigned(payload, DEVICE)),
    "command-result": plain(control.decode_result),
    "settings": signed("settings", control.read_config, DEVICE),
    "settings-report": plain(control.decode_report),
    "head": signed("head", gallery.read_head),
    "hello": signed("hello", gallery.read_ask, DEVICE),
    "want": signed("want", gallery.read_ask, DEVICE),
    "now": signed("now", gallery.read_now, DEVICE),
    "wrapped-keys": signed("wrapped-keys", gallery.read_keys, DEVICE),
    "part": plain(lambda line: bodies.read_part(line + b"\ncontent")),
    "lost": event,
    "consent": lambda _, value: read_consent(value),
    "enrolment": plain(ENROLMENT_HEAD.decode),
    "gallery-keys": plain(hpke.decode_keys),
    "record": plain(records.RECORD_HEAD.decode),
}


def reader_of(name: str) -> Reader:
    return event if name.startswith("event-") else READERS[name]
