"""An enrolment at a device, on the wire: a passage's fields, and what only the city can open."""

from __future__ import annotations

from typing import Any

from agent.base.events import EnrolmentEvent, Moment
from agent.protocol.events.kind import Kind
from agent.protocol.events.place import read_place
from agent.protocol.events.resident import FIELDS, read_resident
from agent.protocol.fields import encode_bytes, encoded

MAX_SEALED_BYTES = 40_000  # an event with it, in base64, must fit into a batch of 64 KB


def _read(value: dict[str, Any], moment: Moment) -> EnrolmentEvent:
    purpose, person = read_resident(value)
    return EnrolmentEvent(
        purpose,
        person,
        read_place(value["place"]),
        moment,
        encoded(value.get("sealed"), "sealed", 1, MAX_SEALED_BYTES),
    )


def _write(event: EnrolmentEvent) -> dict[str, Any]:
    return {"sealed": encode_bytes(event.sealed)}


# ``sealed`` is not among the fields: without it the answer is "bad_sealed", as it always was.
ENROLMENT = Kind((EnrolmentEvent.kind,), EnrolmentEvent, (*FIELDS, "place"), _read, _write)
