"""Rows of the journal as flat records, and as CSV or JSON lines for other programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from typing import TextIO

from agent.journal.entries import Entry

MASKED = "masked"
COLUMNS = (
    *("epoch", "seq", "state", "code", "kind", "purpose", "person"),
    *("place_kind", "place", "door", "stop"),
    *("boot", "mono_ms", "wall_ms", "clock", "error_ms", "corrected_ms", "acked_ms"),
)


def as_record(entry: Entry, *, show_persons: bool) -> dict[str, str | int | None]:
    """*entry* by the names in COLUMNS; pseudonyms are masked unless *show_persons*.

    What only the sealed body knows is None for a damaged row.
    """
    event, moment = entry.event, entry.moment
    place = event.place if event else None
    person = event.person if event else None
    return {
        "epoch": entry.epoch,
        "seq": entry.seq,
        "state": entry.state,
        "code": entry.code,
        "kind": event.kind.value if event else None,
        "purpose": event.purpose if event else None,
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
    }


def write_csv(entries: Iterable[Entry], out: TextIO, *, show_persons: bool) -> int:
    """Write a header and a line for each entry (RFC 4180); returns how many entries."""
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    count = 0
    for entry in entries:
        writer.writerow(as_record(entry, show_persons=show_persons))
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
