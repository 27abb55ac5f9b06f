"""All kinds of events there are, and one event between its class and JSON, whatever its kind.

A new kind is a class in ``agent.base.events``, a file here, and its line in KINDS.
"""

from __future__ import annotations

import json
from typing import Any

from agent.base.events import (
    EnrolmentEvent,
    Event,
    Moment,
    PassageEvent,
    UnknownEvent,
    place_of,
)
from agent.protocol.events.correction import CORRECTION
from agent.protocol.events.count import COUNT
from agent.protocol.events.enrolment import ENROLMENT
from agent.protocol.events.kind import WORD, Kind
from agent.protocol.events.moment import FIELDS, read_moment
from agent.protocol.events.passage import PASSAGE
from agent.protocol.events.place import write_place
from agent.protocol.events.resident import PERSON
from agent.protocol.events.servicecount import SERVICE_COUNT
from agent.protocol.events.stopvisit import STOP_VISIT
from agent.protocol.events.survey import SURVEY
from agent.protocol.fields import FieldError, fields, name

KINDS: tuple[Kind[Any], ...] = (
    PASSAGE,
    ENROLMENT,
    CORRECTION,
    SERVICE_COUNT,
    STOP_VISIT,
    COUNT,
    SURVEY,
)
BY_WORD: dict[str, Kind[Any]] = {word: kind for kind in KINDS for word in kind.words}
BY_CLASS: dict[type, Kind[Any]] = {kind.event: kind for kind in KINDS}
MAX_UNKNOWN_BYTES = 16_384  # of what is kept unread of an event; a new kind keeps to it

_ENVELOPE = ("kind", *FIELDS)
_NOT_BODY = frozenset({"epoch", "seq", "corrected_ms", *_ENVELOPE})


def read_item(value: Any) -> Event:
    """The event in an item from the network. Raises FieldError for the first bad field.

    One of a kind not known here is read as far as every kind is alike, and kept as it came.
    """
    item = fields(value, _ENVELOPE, "event")
    word = item["kind"]
    kind = BY_WORD.get(word) if isinstance(word, str) else None
    if kind is None:
        name(word, "kind", WORD)
    moment = read_moment(item)
    if kind is not None:
        event: Event = kind.read(fields(item, kind.fields, "event"), moment)
        return event
    unknown = _unread(item, moment)
    if len(unknown.body.encode()) > MAX_UNKNOWN_BYTES:
        raise FieldError("event", f"of an unknown kind, and over {MAX_UNKNOWN_BYTES} bytes")
    return unknown


def restored(body: dict[str, Any], moment: Moment) -> Event:
    """The event that *body*, ``head`` and ``tail`` of this or another version, was made of.

    What cannot be read here is kept unread: it was journalled once, so the city gets it and says
    what it thinks of it. Raises KeyError for what is no event at all.
    """
    kind = BY_WORD.get(body["kind"])
    if kind is None:
        return _unread(body, moment)
    try:
        event: Event = kind.read(fields(body, kind.fields, "event"), moment)
    except FieldError:
        return _unread(body, moment)
    return event


def head(event: Event) -> dict[str, Any]:
    """What goes before the moment: the kind, whom it is about, and where it happened."""
    value: dict[str, Any] = {"kind": event.kind}
    if isinstance(event, (PassageEvent, EnrolmentEvent)):
        value["purpose"] = event.purpose
        value["person"] = event.person
    place = place_of(event)
    if place is not None:
        value["place"] = write_place(place)
    return value


def tail(event: Event) -> dict[str, Any]:
    """What goes behind the moment: what only this kind has."""
    if isinstance(event, UnknownEvent):
        named = {"person": event.person} if event.person else {}
        return {**named, **json.loads(event.body)}
    return BY_CLASS[type(event)].write(event)


def _unread(item: dict[str, Any], moment: Moment) -> UnknownEvent:
    body = {key: value for key, value in item.items() if key not in _NOT_BODY}
    person = body.get("person")
    if isinstance(person, str) and PERSON.fullmatch(person):
        del body["person"]  # apart, so that it can be erased
    else:
        person = ""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True,
                          allow_nan=False)  # fmt: skip
        text.encode()
    # ValueError: infinite, or half a character; RecursionError: nested deep.
    except (ValueError, RecursionError) as error:
        raise FieldError("event", f"of an unknown kind, and {type(error).__name__}") from error
    return UnknownEvent(item["kind"], person, moment, text)
