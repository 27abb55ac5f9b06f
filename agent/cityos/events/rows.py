"""An event as a row of the table ``event``, and what a repeat of it may add to that row."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from agent.base.errors import MessageError
from agent.base.events import (
    WHERE_COLUMNS,
    EnrolmentEvent,
    Event,
    PassageEvent,
    StoredEvent,
    UnknownEvent,
    person_of,
    place_of,
    where_known,
)
from agent.protocol.events.kinds import read_body, write_body

MORE = (*WHERE_COLUMNS, "body")
_NOTHING_MORE: dict[str, Any] = dict.fromkeys(MORE)
# What a program that knew fewer kinds, or places less well, may have left empty: of an event that
# has a body, and of one that has none.
_OF_THE_BODY = frozenset({"purpose", "place_kind", "place", "door", "stop", *MORE})
_LATER = frozenset({"corrected_ms", *WHERE_COLUMNS})


def row_of(device: str, stored: StoredEvent, now_ms: int) -> dict[str, Any]:
    """*stored* as a row of the table ``event``.

    The columns in MORE are there only when one of them is not NULL: of most events none is.
    """
    event, moment = stored.event, stored.event.moment
    resident = event if isinstance(event, (PassageEvent, EnrolmentEvent)) else None
    place = resident.place if resident else place_of(event)
    row = {
        "device": device,
        "epoch": stored.epoch,
        "seq": stored.seq,
        "kind": event.kind,
        "purpose": resident.purpose if resident else "",
        "person": resident.person if resident else person_of(event),
        "place_kind": place.kind if place else "",
        "place": place.name if place else "",
        "door": place.door if place else "",
        "stop": place.stop if place else None,
        "boot": moment.boot,
        "mono_ms": moment.mono_ms,
        "wall_ms": moment.wall_ms,
        "clock": moment.clock,
        "error_ms": moment.error_ms,
        "corrected_ms": stored.corrected_ms,
        "received_ms": now_ms,
    }
    if resident and not resident.place.timetable and not resident.place.fix:
        return row
    return {**row, **where_known(place), "body": None if resident else _body(event)}


def added(row: Row[Any], came: StoredEvent) -> dict[str, Any] | None:
    """Columns of *row* that were NULL and *came*, a repeat of it, knows; None for other content."""
    found: dict[str, Any] = {}
    there = row._mapping
    for name, value in (_NOTHING_MORE | row_of(row.device, came, row.received_ms)).items():
        had = there[name]
        if had == value or (name == "person" and not had):
            continue  # whose the event was is forgotten when they are erased
        if row.body is not None and name in _OF_THE_BODY:
            if name == "body" and not _says_the_same(row, came.event):
                return None
            if name != "body" and value not in (None, ""):
                found[name] = value
        elif name not in _LATER or (had is not None and name != "corrected_ms"):
            return None
        elif had is None:
            found[name] = value
    return found


def _body(event: Event) -> str:
    """What the columns that all events have do not hold, as JSON with sorted names."""
    if isinstance(event, UnknownEvent):
        return event.body
    value = write_body(event)
    del value["kind"]
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def _says_the_same(row: Row[Any], event: Event) -> bool:
    """Whether *row*, which an older program may have kept unread, is *event* as it is read now."""
    person = {"person": row.person} if row.person else {}
    try:
        return (
            read_body({"kind": row.kind, **person, **json.loads(row.body)}, event.moment) == event
        )
    except MessageError:
        return False
