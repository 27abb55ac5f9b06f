"""A correction on the wire: which event it is about, what becomes of that, and why."""

from __future__ import annotations

from typing import Any

from agent.base.events import CorrectionEvent, EventRef
from agent.protocol.events.kind import PLACE, WORD, Kind
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import DEVICE, EPOCH, Integer, Optional, Spec

_REF: dict[str, Spec[Any]] = {"device": DEVICE, "epoch": EPOCH, "seq": Integer(1)}

CORRECTION = Kind(
    CorrectionEvent,
    {
        "place": Optional(PLACE),
        "corrects": Form(EventRef, "corrects", _REF),
        "what": WORD,
        "why": WORD,
    },
    CrossCheck(
        "place",
        "missing, though it is what is corrected",
        lambda event: event.what != "place" or event.place is not None,
    ),
)
