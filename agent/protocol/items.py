"""One item of a batch as JSON on the wire, and strictly back: an event, or word that none comes.

``{"epoch", "seq", "last", "lost": code}`` stands in a batch for numbers *seq* to *last* that the
device will never send: set aside by itself, lost to damage or quota, or deleted after their time.
The city acknowledges it like events, so no hole in its sequence stays unexplained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.base.events import StoredEvent
from agent.protocol.events.kind import IDENTITY
from agent.protocol.events.kinds import read_item, write_item
from agent.protocol.fields import FieldError, compact
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import CODE, Integer


@dataclass(frozen=True, slots=True)
class Lost:
    """Numbers *first* to *last* of *epoch* will never come; ``code`` says why."""

    epoch: str
    first: int
    last: int
    code: str


LOST = Form(
    Lost,
    "lost",
    {**IDENTITY, "last": Integer(), "lost": CODE},
    names={"seq": "first", "lost": "code"},
    checks=(CrossCheck("last", "before seq", lambda lost: lost.last >= lost.first),),
)


def encode_lost(lost: Lost) -> bytes:
    """*lost* as one JSON object in UTF-8."""
    return LOST.encode(lost)


def decode_item(item: Any) -> StoredEvent | Lost:
    """One item of ``messages.unpack``. Raises FieldError for the first bad field."""
    if isinstance(item, dict) and "lost" in item:
        return LOST.read(item)
    return decode_event(item)


def encode_event(stored: StoredEvent) -> bytes:
    """*stored* as one JSON object in UTF-8. Raises MessageError if a text cannot be written."""
    try:
        return compact(write_item(stored))
    except UnicodeEncodeError as error:
        raise MessageError(f"event {stored.seq}: a text is not Unicode: {error.reason}") from error


def decode_event(item: Any) -> StoredEvent:
    """One item that is an event. Raises FieldError for the first bad field."""
    if not isinstance(item, dict):
        raise FieldError("event", "not an object")
    return read_item(item)
