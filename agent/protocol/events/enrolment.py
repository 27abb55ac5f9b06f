"""An enrolment at a device, on the wire: a passage's fields, and what only the city can open."""

from __future__ import annotations

from agent.base.events import EnrolmentEvent
from agent.protocol.events.kind import PLACE, RESIDENT, Kind
from agent.protocol.forms import CrossCheck
from agent.protocol.specs import Base64, Optional

MAX_SEALED_BYTES = 40_000  # an event with it, in base64, must fit into a batch of 64 KB

ENROLMENT = Kind(
    EnrolmentEvent,
    {**RESIDENT, "place": PLACE, "sealed": Optional(Base64(1, MAX_SEALED_BYTES), b"")},
    # Not simply needed: it is "bad_sealed" then, as it always was.
    CrossCheck("sealed", "missing", lambda event: bool(event.sealed)),
)
