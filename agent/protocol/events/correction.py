"""A correction on the wire: which event it is about, what becomes of that, and why."""

from __future__ import annotations

from typing import Any

from agent.base.events import CorrectionEvent, Moment
from agent.protocol.events.kind import Kind, word
from agent.protocol.events.place import read_place
from agent.protocol.fields import FieldError, device_name, epoch_name, fields, integer

_OF = ("device", "epoch", "seq")


def _read(value: dict[str, Any], moment: Moment) -> CorrectionEvent:
    about = fields(value["corrects"], _OF, "corrects")
    what = word(value["what"], "what")
    place = value.get("place")
    if what == "place" and place is None:
        raise FieldError("place", "missing, though it is what is corrected")
    return CorrectionEvent(
        device_name(about["device"]),
        epoch_name(about["epoch"]),
        integer(about["seq"], "corrects.seq", 1),
        what,
        word(value["why"], "why"),
        moment,
        None if place is None else read_place(place),
    )


def _write(event: CorrectionEvent) -> dict[str, Any]:
    return {
        "corrects": {"device": event.device, "epoch": event.epoch, "seq": event.seq},
        "what": event.what,
        "why": event.why,
    }


CORRECTION = Kind(
    (CorrectionEvent.kind,), CorrectionEvent, ("corrects", "what", "why"), _read, _write
)
