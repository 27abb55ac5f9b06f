"""A visit of a vehicle to a stop, on the wire: arrival, departure, doors, load."""

from __future__ import annotations

from typing import Any

from agent.base.events import DoorOpening, Load, Moment, StopVisitEvent
from agent.protocol.events.kind import Kind, word
from agent.protocol.events.place import read_place
from agent.protocol.fields import MAX_INTEGER, array, fields, integer, text

_MOST_OPENINGS = 64
_OPENING = ("door", "opened_mono_ms", "closed_mono_ms")
_LOAD = ("passengers", "source", "quality")


def _read(value: dict[str, Any], moment: Moment) -> StopVisitEvent:
    arrived = integer(value["arrived_mono_ms"], "arrived_mono_ms")
    load = value["load"]
    return StopVisitEvent(
        read_place(value["place"]),
        moment,
        integer(value["visit"], "visit", 1),
        arrived,
        integer(value["departed_mono_ms"], "departed_mono_ms", arrived),
        tuple(_opening(item) for item in array(value["doors"], _MOST_OPENINGS, "doors")),
        None if load is None else _load(load),
    )


def _opening(value: Any) -> DoorOpening:
    item = fields(value, _OPENING, "doors")
    opened = integer(item["opened_mono_ms"], "doors.opened_mono_ms")
    closed = integer(item["closed_mono_ms"], "doors.closed_mono_ms", opened)
    return DoorOpening(text(item["door"], "doors.door", 1, 64), opened, closed)


def _load(value: Any) -> Load:
    item = fields(value, _LOAD, "load")
    return Load(
        integer(item["passengers"], "load.passengers", -MAX_INTEGER),
        word(item["source"], "load.source"),
        word(item["quality"], "load.quality"),
    )


def _write(event: StopVisitEvent) -> dict[str, Any]:
    load = event.load
    return {
        "visit": event.visit,
        "arrived_mono_ms": event.arrived_mono_ms,
        "departed_mono_ms": event.departed_mono_ms,
        "doors": [{key: getattr(each, key) for key in _OPENING} for each in event.doors],
        "load": None if load is None else {key: getattr(load, key) for key in _LOAD},
    }


STOP_VISIT = Kind(
    (StopVisitEvent.kind,),
    StopVisitEvent,
    ("place", "visit", "arrived_mono_ms", "departed_mono_ms", "doors", "load"),
    _read,
    _write,
)
