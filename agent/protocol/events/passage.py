"""A passage on the wire: ``boarding``, ``alighting``, ``check_in`` and ``check_out``."""

from __future__ import annotations

from typing import Any

from agent.base.events import Moment, Passage, PassageEvent
from agent.protocol.events.kind import Kind
from agent.protocol.events.place import read_place
from agent.protocol.events.resident import FIELDS, read_resident
from agent.protocol.fields import FieldError

_PASSAGES = {passage.value: passage for passage in Passage}


def _read(value: dict[str, Any], moment: Moment) -> PassageEvent:
    if "sealed" in value:
        raise FieldError("sealed", "only an enrolment carries it")
    purpose, person = read_resident(value)
    place = read_place(value["place"])
    return PassageEvent(_PASSAGES[value["kind"]], purpose, person, place, moment)


def _write(_event: PassageEvent) -> dict[str, Any]:
    return {}


PASSAGE = Kind(tuple(_PASSAGES), PassageEvent, (*FIELDS, "place"), _read, _write)
