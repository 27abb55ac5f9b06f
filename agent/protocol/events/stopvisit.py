"""A visit of a vehicle to a stop, on the wire: arrival, departure, doors, load."""

from __future__ import annotations

from agent.base.events import DoorOpening, Load, StopVisitEvent
from agent.protocol.events.kind import PLACE, WORD, Kind
from agent.protocol.fields import MAX_INTEGER
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import Array, Integer, Nullable, Text

_MOST_OPENINGS = 64
_OPENING = Form(
    DoorOpening,
    "doors",
    {"door": Text(1, 64), "opened_mono_ms": Integer(), "closed_mono_ms": Integer()},
    checks=(
        CrossCheck(
            "closed_mono_ms",
            "before it was opened",
            lambda opening: opening.closed_mono_ms >= opening.opened_mono_ms,
        ),
    ),
)
_LOAD = Form(Load, "load", {"passengers": Integer(-MAX_INTEGER), "source": WORD, "quality": WORD})

STOP_VISIT = Kind(
    StopVisitEvent,
    {
        "place": PLACE,
        "visit": Integer(1),
        "arrived_mono_ms": Integer(),
        "departed_mono_ms": Integer(),
        "doors": Array(_OPENING, _MOST_OPENINGS),
        "load": Nullable(_LOAD),
    },
    CrossCheck("departed_mono_ms", "before the arrival", lambda visit: visit.dwell_ms >= 0),
)
