"""A count of everybody at a door, on the wire."""

from __future__ import annotations

from typing import Any

from agent.base.events import CountEvent, Moment
from agent.protocol.events.kind import Kind, word
from agent.protocol.events.place import read_place
from agent.protocol.fields import integer


def _read(value: dict[str, Any], moment: Moment) -> CountEvent:
    return CountEvent(
        read_place(value["place"]),
        moment,
        integer(value["entered"], "entered"),
        integer(value["exited"], "exited"),
        word(value["source"], "source"),
        word(value["quality"], "quality"),
    )


def _write(event: CountEvent) -> dict[str, Any]:
    return {
        "entered": event.entered,
        "exited": event.exited,
        "source": event.source,
        "quality": event.quality,
    }


COUNT = Kind(
    (CountEvent.kind,),
    CountEvent,
    ("place", "entered", "exited", "source", "quality"),
    _read,
    _write,
)
