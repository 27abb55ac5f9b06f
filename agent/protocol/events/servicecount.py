"""How a door served, on the wire: passages, refusals, fallbacks and their time, by medium."""

from __future__ import annotations

from typing import Any

from agent.base.events import MediumCount, Moment, ServiceCountEvent
from agent.protocol.events.kind import Kind, word
from agent.protocol.events.place import read_place
from agent.protocol.fields import array, fields, integer

_MOST_MEDIA = 16
_COUNTS = ("passages", "refusals", "fallbacks", "passage_ms")


def _read(value: dict[str, Any], moment: Moment) -> ServiceCountEvent:
    return ServiceCountEvent(
        read_place(value["place"]),
        moment,
        integer(value["period_ms"], "period_ms"),
        tuple(_medium(item) for item in array(value["media"], _MOST_MEDIA, "media")),
    )


def _medium(value: Any) -> MediumCount:
    item = fields(value, ("medium", *_COUNTS), "media")
    counts = (integer(item[key], f"media.{key}") for key in _COUNTS)
    return MediumCount(word(item["medium"], "media.medium"), *counts)


def _write(event: ServiceCountEvent) -> dict[str, Any]:
    return {
        "period_ms": event.period_ms,
        "media": [
            {"medium": each.medium, **{key: getattr(each, key) for key in _COUNTS}}
            for each in event.media
        ],
    }


SERVICE_COUNT = Kind(
    (ServiceCountEvent.kind,), ServiceCountEvent, ("place", "period_ms", "media"), _read, _write
)
