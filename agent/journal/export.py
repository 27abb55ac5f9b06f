"""Rows of the journal as flat records, and as CSV or JSON lines for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import Any, TextIO

from agent.base.events import (
    WHERE_COLUMNS,
    EnrolmentEvent,
    Event,
    PassageEvent,
    UnknownEvent,
    person_of,
    place_of,
    where_known,
)
from agent.journal.entries import Entry
from agent.protocol.events.kinds import write_body

MASKED = "masked"
_IN_COLUMNS = ("kind", "purpose", "person", "place")
COLUMNS = (
    *("epoch", "seq", "state", "code", "kind", "purpose", "person"),
    *("place_kind", "place", "door", "stop"),
    *("boot", "mono_ms", "wall_ms", "clock", "error_ms", "corrected_ms", "acked_ms"),
    *WHERE_COLUMNS,
    "detail",
)


def as_record(entry: Entry, *, show_persons: bool) -> dict[str, Any]:
    """*entry* by the names in COLUMNS; pseudonyms are masked unless *show_persons*.

    What only the sealed body knows is None for a damaged row. ``detail`` holds what only events of
    this kind have.
    """
    event, moment = entry.event, entry.moment
    place = place_of(event) if event else None
    person = (person_of(event) or None) if event else None
    return {
        "epoch": entry.epoch,
        "seq": entry.seq,
        "state": entry.state,
        "code": entry.code,
        "kind": event.kind if event else None,
        "purpose": event.purpose if isinstance(event, (PassageEvent, EnrolmentEvent)) else None,
        "person": person if show_persons or person is None else MASKED,
        "place_kind": place.kind if place else None,
        "place": place.name if place else None,
        "door": place.door if place else None,
        "stop": place.stop if place else None,
        "boot": moment.boot,
        "mono_ms": moment.mono_ms,
        "wall_ms": moment.wall_ms,
        "clock": moment.clock,
        "error_ms": moment.error_ms,
        "corrected_ms": entry.corrected_ms,
        "acked_ms": entry.acked_ms,
        **where_known(place),
        "detail": _detail(event, show_persons=show_persons),
    }


def _detail(event: Event | None, *, show_persons: bool) -> Any:
    if isinstance(event, UnknownEvent) and not show_persons:
        return MASKED  # nobody here can say what it names
    if event is None or isinstance(event, EnrolmentEvent):
        return None  # what is sealed is for the city alone
    own = write_body(event).items()
    return {name: value for name, value in own if name not in _IN_COLUMNS} or None


def write_csv(entries: Iterable[Entry], out: TextIO, *, show_persons: bool) -> int:
    """Write a header and a line for each entry (RFC 4180); returns how many entries."""
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    count = 0
    for entry in entries:
        record = as_record(entry, show_persons=show_persons)
        if isinstance(record["detail"], dict):
            record["detail"] = json.dumps(record["detail"], ensure_ascii=False)
        writer.writerow(record)
        count += 1
    return count


def write_json_lines(entries: Iterable[Entry], out: TextIO, *, show_persons: bool) -> int:
    """Write one JSON object a line for each entry; returns how many."""
    count = 0
    for entry in entries:
        out.write(json.dumps(as_record(entry, show_persons=show_persons), ensure_ascii=False))
        out.write("\n")
        count += 1
    return count
