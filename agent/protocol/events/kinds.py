"""All kinds of events there are, and one event between its class and JSON, whatever its kind.

A new kind is a class in ``agent.base.events``, a file here, and its line in KINDS.
"""

from __future__ import annotations

from typing import Any

from agent.base.events import Event, Moment, StoredEvent, UnknownEvent
from agent.protocol.events.correction import CORRECTION
from agent.protocol.events.count import COUNT
from agent.protocol.events.enrolment import ENROLMENT
from agent.protocol.events.kind import Kind
from agent.protocol.events.passage import PASSAGE
from agent.protocol.events.servicecount import SERVICE_COUNT
from agent.protocol.events.stopvisit import STOP_VISIT
from agent.protocol.events.survey import SURVEY
from agent.protocol.events.unknown import read_unknown, unknown_body, unread, write_unknown
from agent.protocol.fields import FieldError

KINDS: tuple[Kind, ...] = (
    PASSAGE,
    ENROLMENT,
    CORRECTION,
    SERVICE_COUNT,
    STOP_VISIT,
    COUNT,
    SURVEY,
)
BY_WORD: dict[str, Kind] = {word: kind for kind in KINDS for word in kind.words}
BY_CLASS: dict[type, Kind] = {kind.event: kind for kind in KINDS}


def read_item(item: dict[str, Any]) -> StoredEvent:
    """An event from the network. Raises FieldError for the first bad field.

    One of a kind not known here is read as far as every kind is alike, and kept as it came.
    """
    word = item.get("kind")
    kind = BY_WORD.get(word) if isinstance(word, str) else None
    if kind is None:
        return read_unknown(item)
    if "sealed" in item and kind is not ENROLMENT:
        raise FieldError("sealed", "only an enrolment carries it")
    return kind.item.read(item)


def write_item(stored: StoredEvent) -> dict[str, Any]:
    """*stored* as it is sent."""
    event = stored.event
    if isinstance(event, UnknownEvent):
        return write_unknown(stored, event)
    return BY_CLASS[type(event)].item.write(stored)


def read_body(body: dict[str, Any], moment: Moment) -> Event:
    """The event that ``write_body`` of this or another version made *body* of.

    What cannot be read here is kept unread: it was journalled once, so the city gets it and says
    what it thinks of it. Raises KeyError for what is no event at all.
    """
    kind = BY_WORD.get(body["kind"])
    if kind is None:
        return unread(body, moment)
    try:
        event: Event = kind.body.read(body, moment=moment)
    except FieldError:
        return unread(body, moment)
    return event


def write_body(event: Event) -> dict[str, Any]:
    """The kind, and what *event* has beside identity and moment, as the journal keeps it."""
    if isinstance(event, UnknownEvent):
        return {"kind": event.kind, **unknown_body(event)}
    return BY_CLASS[type(event)].body.write(event)
