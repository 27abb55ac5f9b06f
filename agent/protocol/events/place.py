"""Where an event happened, on the wire: four fields always, the others only where known."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from agent.base.events import Fix, Place
from agent.protocol.events.kind import word
from agent.protocol.fields import fields, integer, name, text

_ALWAYS = ("kind", "name", "door", "stop")
_FIX = ("latitude_e7", "longitude_e7", "accuracy_mm", "age_ms")
_DATE = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])")
_MOST_MM = 10**10  # farther off than the earth is round
_DEGREE = 10**7


def write_place(place: Place) -> dict[str, Any]:
    value: dict[str, Any] = {
        "kind": place.kind,
        "name": place.name,
        "door": place.door,
        "stop": place.stop,
    }
    for key in _WHERE_KNOWN:
        known = getattr(place, key)
        if known is not None:
            value[key] = known
    if place.fix is not None:
        value["fix"] = {key: getattr(place.fix, key) for key in _FIX}
    return value


def read_place(value: Any) -> Place:
    """Raises FieldError for the first bad field, for example ``place.stop_id``."""
    place = fields(value, _ALWAYS, "place")
    stop = place["stop"]
    known = {}
    if len(place) > len(_ALWAYS):
        known = {
            key: read(place[key], f"place.{key}")
            for key, read in _READERS.items()
            if place.get(key) is not None
        }
    return Place(
        kind=word(place["kind"], "place.kind"),
        name=text(place["name"], "place.name", 1, 128),
        door=text(place["door"], "place.door", 1, 64),
        stop=None if stop is None else text(stop, "place.stop", 1, 128),
        **known,
    )


def _id(value: Any, what: str) -> str:
    return text(value, what, 1, 128)


def _fix(value: Any, what: str) -> Fix:
    fix = fields(value, _FIX, what)
    return Fix(
        integer(fix["latitude_e7"], f"{what}.latitude_e7", -90 * _DEGREE, 90 * _DEGREE),
        integer(fix["longitude_e7"], f"{what}.longitude_e7", -180 * _DEGREE, 180 * _DEGREE),
        integer(fix["accuracy_mm"], f"{what}.accuracy_mm", -1, _MOST_MM),
        integer(fix["age_ms"], f"{what}.age_ms"),
    )


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "feed": _id,
    "route": _id,
    "trip": _id,
    "service_date": lambda value, what: name(value, what, _DATE),
    "stop_id": _id,
    "stop_sequence": integer,
    "known": word,
    "fix": _fix,
}
_WHERE_KNOWN = tuple(key for key in _READERS if key != "fix")
