"""How a door served, on the wire: passages, refusals, fallbacks and their time, by medium."""

from __future__ import annotations

from typing import Any

from agent.base.events import MediumCount, ServiceCountEvent
from agent.protocol.events.kind import PLACE, WORD, Kind
from agent.protocol.forms import Form
from agent.protocol.specs import Array, Integer, Spec

_MOST_MEDIA = 16
_MEDIUM: dict[str, Spec[Any]] = {
    "medium": WORD,
    "passages": Integer(),
    "refusals": Integer(),
    "fallbacks": Integer(),
    "passage_ms": Integer(),
}

SERVICE_COUNT = Kind(
    ServiceCountEvent,
    {
        "place": PLACE,
        "period_ms": Integer(),
        "media": Array(Form(MediumCount, "media", _MEDIUM), _MOST_MEDIA),
    },
)
