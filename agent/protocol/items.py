"""One item of a batch as JSON on the wire, and strictly back: an event, or word that none comes.

An enrolment carries base64 ``sealed`` beside, which only the city can open; no other event does.
``{"epoch", "seq", "last", "lost": code}`` stands in a batch for numbers *seq* to *last* that the
device will never send: set aside by itself, lost to damage or quota, or deleted after their time.
The city acknowledges it like events, so no hole in its sequence stays unexplained.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.base.values import Event, EventKind, Moment, Place, StoredEvent
from agent.protocol.consent import MAX_SEALED_BYTES
from agent.protocol.fields import (
    BOOT,
    CODE,
    MAX_INTEGER,
    FieldError,
    compact,
    encode_bytes,
    encoded,
    fields,
    integer,
    name,
    text,
)
from agent.protocol.messages import identity

CLOCKS = ("gnss", "ntp", "saved", "unset")

_KINDS = {kind.value: kind for kind in EventKind}
_PERSON = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z0-9_]{1,32}")
_FIELDS = ("kind", "purpose", "person", "place", "boot", "mono_ms", "wall_ms", "clock", "error_ms")
_PLACE = ("kind", "name", "door", "stop")


@dataclass(frozen=True, slots=True)
class Lost:
    """Numbers *first* to *last* of *epoch* will never come; ``code`` says why."""

    epoch: str
    first: int
    last: int
    code: str


def encode_lost(lost: Lost) -> bytes:
    """*lost* as one JSON object in UTF-8."""
    return compact({"epoch": lost.epoch, "seq": lost.first, "last": lost.last, "lost": lost.code})


def decode_item(item: Any) -> StoredEvent | Lost:
    """One item of ``messages.unpack``. Raises FieldError for the first bad field."""
    if not isinstance(item, dict) or "lost" not in item:
        return decode_event(item)
    epoch, first = identity(item)
    last = integer(item.get("last"), "last", first)
    return Lost(epoch, first, last, name(item["lost"], "lost", CODE))


def encode_event(stored: StoredEvent) -> bytes:
    """*stored* as one JSON object in UTF-8. Raises MessageError if a text cannot be written."""
    event, place, moment = stored.event, stored.event.place, stored.event.moment
    value = {
        "epoch": stored.epoch,
        "seq": stored.seq,
        "kind": event.kind.value,
        "purpose": event.purpose,
        "person": event.person,
        "place": {
            "kind": place.kind,
            "name": place.name,
            "door": place.door,
            "stop": place.stop,
        },
        "boot": moment.boot,
        "mono_ms": moment.mono_ms,
        "wall_ms": moment.wall_ms,
        "clock": moment.clock,
        "error_ms": moment.error_ms,
    }
    if stored.corrected_ms is not None:
        value["corrected_ms"] = stored.corrected_ms
    if event.sealed:
        value["sealed"] = encode_bytes(event.sealed)
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise MessageError(f"event {stored.seq}: a text is not Unicode: {error.reason}") from error


def decode_event(item: Any) -> StoredEvent:
    """One item that is an event. Raises FieldError for the first bad field."""
    epoch, seq = identity(item)
    value = fields(item, _FIELDS, "event")
    kind = _KINDS.get(value["kind"]) if isinstance(value["kind"], str) else None
    if kind is None:
        raise FieldError("kind", f"not one of {', '.join(_KINDS)}")
    if value["clock"] not in CLOCKS:
        raise FieldError("clock", f"not one of {', '.join(CLOCKS)}")
    place = fields(value["place"], _PLACE, "place")
    stop = place["stop"]
    corrected = value.get("corrected_ms")
    if kind is not EventKind.ENROLMENT and "sealed" in value:
        raise FieldError("sealed", "only an enrolment carries it")
    return StoredEvent(
        epoch=epoch,
        seq=seq,
        event=Event(
            kind=kind,
            purpose=name(value["purpose"], "purpose", _WORD),
            person=name(value["person"], "person", _PERSON),
            place=Place(
                kind=name(place["kind"], "place.kind", _WORD),
                name=text(place["name"], "place.name", 1, 128),
                door=text(place["door"], "place.door", 1, 64),
                stop=None if stop is None else text(stop, "place.stop", 1, 128),
            ),
            moment=Moment(
                boot=name(value["boot"], "boot", BOOT),
                mono_ms=integer(value["mono_ms"], "mono_ms"),
                # A clock may be set before 1970; that is a wrong time, not a wrong event.
                wall_ms=integer(value["wall_ms"], "wall_ms", -MAX_INTEGER),
                clock=value["clock"],
                error_ms=integer(value["error_ms"], "error_ms", -1),
            ),
            sealed=encoded(value.get("sealed"), "sealed", 1, MAX_SEALED_BYTES)
            if kind is EventKind.ENROLMENT
            else b"",
        ),
        corrected_ms=None
        if corrected is None
        else integer(corrected, "corrected_ms", -MAX_INTEGER),
    )
