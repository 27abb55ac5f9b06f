"""Events that this version cannot read, for their kind or content: kept, and sent, as they came."""

from __future__ import annotations

import json
from typing import Any

from agent.base.events import Moment, StoredEvent, UnknownEvent
from agent.protocol.events.kind import PERSON, WORD, item_form
from agent.protocol.fields import CrossCheckError

MAX_UNKNOWN_BYTES = 16_384  # beside identity, kind and moment; every new kind keeps to it

ITEM = item_form(UnknownEvent, {"kind": WORD}, {})
_NOT_BODY = frozenset(ITEM.fields)


def read_unknown(item: dict[str, Any]) -> StoredEvent:
    """An event from the network of a kind not known here. Raises CrossCheckError."""
    person, body = _apart(item)
    if len(body.encode()) > MAX_UNKNOWN_BYTES:
        raise CrossCheckError("event", f"of an unknown kind, and over {MAX_UNKNOWN_BYTES} bytes")
    return ITEM.read(item, person=person, body=body)


def write_unknown(stored: StoredEvent, event: UnknownEvent) -> dict[str, Any]:
    """*stored*, which is *event*, as it came."""
    return {**ITEM.write(stored), **unknown_body(event)}


def unread(body: dict[str, Any], moment: Moment) -> UnknownEvent:
    """The journalled event *body*, which cannot be read. Raises KeyError for what is none."""
    person, text = _apart(body)
    return UnknownEvent(body["kind"], person, moment, text)


def unknown_body(event: UnknownEvent) -> dict[str, Any]:
    """What *event* has beside identity, kind and moment."""
    person = {"person": event.person} if event.person else {}
    return {**person, **json.loads(event.body)}


def _apart(item: dict[str, Any]) -> tuple[str, str]:
    """(person, body): whom it is about lies apart, so that it can be erased."""
    body = {key: value for key, value in item.items() if key not in _NOT_BODY}
    person = body.get("person")
    if isinstance(person, str) and PERSON.pattern.fullmatch(person):
        del body["person"]
    else:
        person = ""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True,
                          allow_nan=False)  # fmt: skip
        text.encode()
    # ValueError: infinite, or half a character; RecursionError: nested deep.
    except (ValueError, RecursionError) as error:
        raise CrossCheckError("event", f"of an unknown kind, and {type(error).__name__}") from error
    return person, text
