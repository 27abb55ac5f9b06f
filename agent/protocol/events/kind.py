"""One kind of event as ``kinds.KINDS`` lists it, and the fields that several kinds share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from agent.base.events import Fix, Moment, Place, StoredEvent, TimetableStop
from agent.protocol.fields import MAX_INTEGER, FieldError
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import (
    BOOT,
    EPOCH,
    Choice,
    Constant,
    Integer,
    Name,
    Nullable,
    Optional,
    Spec,
    Text,
)

WORD = Name(re.compile(r"[a-z0-9_]{1,32}"))  # of a set that may grow
PERSON = Name(re.compile(r"[0-9a-f]{64}"))
IDENTITY: dict[str, Spec[Any]] = {"epoch": EPOCH, "seq": Integer(1)}
RESIDENT: dict[str, Spec[Any]] = {"purpose": WORD, "person": PERSON}
MOMENT: dict[str, Spec[Any]] = {
    "boot": BOOT,
    "mono_ms": Integer(),
    # A clock may be set before 1970; that is a wrong time, not a wrong event.
    "wall_ms": Integer(-MAX_INTEGER),
    "clock": Choice(("gnss", "ntp", "saved", "unset")),
    "error_ms": Integer(-1),
}

_ID = Text(1, 128)
_DATE = Name(re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"))
_TIMETABLE = Form(
    TimetableStop,
    "timetable",
    {
        "how": WORD,
        **{name: Optional(_ID) for name in ("feed", "route", "trip")},
        "service_date": Optional(_DATE),
        "stop_id": Optional(_ID),
        "stop_sequence": Optional(Integer()),
    },
)
_DEGREE = 10**7
_FIX = Form(
    Fix,
    "fix",
    {
        "latitude_e7": Integer(-90 * _DEGREE, 90 * _DEGREE),
        "longitude_e7": Integer(-180 * _DEGREE, 180 * _DEGREE),
        "accuracy_mm": Integer(-1),
        "age_ms": Integer(),
    },
)
PLACE = Form(
    Place,
    "place",
    {
        "kind": WORD,
        "name": Text(1, 128),
        "door": Text(1, 64),
        "stop": Nullable(Text(1, 128)),
        # Where known; a device or a city from before leaves them out, or alone.
        "timetable": Optional(_TIMETABLE),
        "fix": Optional(_FIX),
    },
)
_CORRECTED = {"corrected_ms": Optional(Nullable(Integer(-MAX_INTEGER)))}
_BEFORE_MOMENT = ("kind", "purpose", "person", "place")  # as it always was


def item_form(
    event: type[Any],
    fields: Mapping[str, Spec[Any]],
    names: Mapping[str, str],
    checks: tuple[CrossCheck[Any], ...] = (),
) -> Form[StoredEvent]:
    """An event as it is sent: *fields*, among them its kind, with identity and moment between."""
    first = {key: spec for key, spec in fields.items() if key in _BEFORE_MOMENT}
    return Form(
        _stored(event),
        "event",
        {**IDENTITY, **first, **MOMENT, **_CORRECTED, **fields},
        names=names,
        paths={
            **{key: f"event.{names.get(key, key)}" for key in fields},
            **{key: f"event.moment.{key}" for key in MOMENT},
        },
        checks=tuple(_of_stored(check) for check in checks),
    )


class Kind:
    """Events of the class ``event``; ``words`` are what ``kind`` may say of them.

    ``body`` reads and writes them without identity and moment, as the journal keeps them, ``item``
    with both, as they are sent. The moment is given to ``body.read``.
    """

    def __init__(
        self,
        event: type[Any],
        fields: Mapping[str, Spec[Any]],
        *checks: CrossCheck[Any],
        one_of: tuple[str, type[Enum]] | None = None,
    ) -> None:
        """*fields* are those beside identity, kind and moment; *checks* are about the event.

        *one_of*: the attribute that says which of several kinds it is, and what that may be.
        """
        self.event = event
        attribute, choices = one_of or ("kind", None)
        self.words = tuple(each.value for each in choices) if choices else (event.kind,)
        kind: Spec[Any] = Member(choices) if choices else Constant(event.kind)
        mine = {"kind": kind, **fields}
        names = {"kind": attribute}
        self.body = Form(event, "event", mine, names=names, checks=checks)
        self.item = item_form(event, mine, names, checks)


class Member(Spec[Any]):
    """One of an enumeration, by its word."""

    def __init__(self, choices: type[Enum]) -> None:
        self._choices = {each.value: each for each in choices}

    def read(self, value: Any, what: str) -> Any:
        found = self._choices.get(value) if isinstance(value, str) else None
        if found is None:
            raise FieldError(what, f"not one of {', '.join(self._choices)}")
        return found

    def write(self, value: Any) -> Any:
        return value.value

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self._choices)}


def _stored(event: type[Any]) -> Callable[..., StoredEvent]:
    def make(
        epoch: str,
        seq: int,
        boot: str,
        mono_ms: int,
        wall_ms: int,
        clock: str,
        error_ms: int,
        corrected_ms: int | None,
        **own: Any,
    ) -> StoredEvent:
        own["moment"] = Moment(boot, mono_ms, wall_ms, clock, error_ms)
        return StoredEvent(epoch, seq, event(**own), corrected_ms)

    return make


def _of_stored(check: CrossCheck[Any]) -> CrossCheck[StoredEvent]:
    return replace(check, holds=lambda stored: check.holds(stored.event))
