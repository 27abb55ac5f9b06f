"""When an event happened, on the wire."""

from __future__ import annotations

from typing import Any

from agent.base.events import Moment
from agent.protocol.fields import BOOT, MAX_INTEGER, FieldError, integer, name

CLOCKS = ("gnss", "ntp", "saved", "unset")
FIELDS = ("boot", "mono_ms", "wall_ms", "clock", "error_ms")


def write_moment(moment: Moment) -> dict[str, Any]:
    return {
        "boot": moment.boot,
        "mono_ms": moment.mono_ms,
        "wall_ms": moment.wall_ms,
        "clock": moment.clock,
        "error_ms": moment.error_ms,
    }


def read_moment(value: dict[str, Any]) -> Moment:
    """The moment in an item that has all of FIELDS. Raises FieldError."""
    if value["clock"] not in CLOCKS:
        raise FieldError("clock", f"not one of {', '.join(CLOCKS)}")
    return Moment(
        boot=name(value["boot"], "boot", BOOT),
        mono_ms=integer(value["mono_ms"], "mono_ms"),
        # A clock may be set before 1970; that is a wrong time, not a wrong event.
        wall_ms=integer(value["wall_ms"], "wall_ms", -MAX_INTEGER),
        clock=value["clock"],
        error_ms=integer(value["error_ms"], "error_ms", -1),
    )
