"""A count of everybody at a door, on the wire."""

from __future__ import annotations

from agent.base.events import CountEvent
from agent.protocol.events.kind import PLACE, WORD, Kind
from agent.protocol.specs import Integer

COUNT = Kind(
    CountEvent,
    {
        "place": PLACE,
        "entered": Integer(),
        "exited": Integer(),
        "source": WORD,
        "quality": WORD,
    },
)
