"""The oracle: what ``append`` returned, written down outside the disk under test, against the city.

A device process writes a line before each append, after it returned, and after it failed. The
lines lie in files of their own, one a life, which neither kills nor power cuts touch. Nothing of
the code under test is used to read or compare them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.base.events import Event, PassageEvent, StoredEvent, person_of

COLUMNS = (
    *("kind", "purpose", "person", "place_kind", "place", "door", "stop"),
    *("boot", "mono_ms", "wall_ms", "clock", "error_ms"),
)


class LedgerWriter:
    """One life's lines, each written at once. A token is the event's ``person``."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def trying(self, event: Event) -> None:
        self._write("try", person_of(event))

    def returned(self, stored: StoredEvent) -> None:
        event, moment = stored.event, stored.event.moment
        assert isinstance(event, PassageEvent)
        place = event.place
        self._write(
            "returned",
            stored.epoch,
            stored.seq,
            [
                *(event.kind, event.purpose, event.person),
                *(place.kind, place.name, place.door, place.stop),
                *(moment.boot, moment.mono_ms, moment.wall_ms, moment.clock, moment.error_ms),
            ],
        )

    def failed(self, event: Event) -> None:
        self._write("failed", person_of(event))

    def fault(self, kind: str) -> None:
        """A fault that only the device itself can tell to have happened."""
        self._write("fault", kind)

    def gone(self, epoch: str, first: int, last: int) -> None:
        """The journal says that it lost these by damage."""
        self._write("gone", epoch, first, last)

    def waiting(self, event: Event) -> None:
        """It is still in the journal: late, which is a problem of its own, but not lost."""
        self._write("waiting", person_of(event))

    def _write(self, *line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


@dataclass
class Ledger:
    """Everything one device's lives wrote."""

    tried: set[str] = field(default_factory=set)
    returned: list[tuple[str, int, list[Any]]] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    faults: Counter[str] = field(default_factory=Counter)
    gone: list[tuple[str, int, int]] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Add the lines of one life; a last one without its end does not count."""
        if not path.exists():
            return
        for line in path.read_bytes().split(b"\n")[:-1]:
            kind, *rest = json.loads(line)
            if kind == "try":
                self.tried.add(rest[0])
            elif kind == "returned":
                epoch, seq, body = rest
                self.returned.append((epoch, seq, body))
            elif kind == "failed":
                self.failed.add(rest[0])
            elif kind == "waiting":
                self.waiting.add(rest[0])
            elif kind == "fault":
                self.faults[rest[0]] += 1
            else:
                epoch, first, last = rest
                self.gone.append((epoch, first, last))


@dataclass
class Verdict:
    """What became of the events of one device."""

    events: int
    lost: list[str]
    duplicated: list[str]
    destroyed: int


def judge(ledger: Ledger, rows: Iterable[tuple[str, int, list[Any]]], *, damaged: bool) -> Verdict:
    """Compare *ledger* with the city's *rows*: (epoch, seq, body) of this device.

    Lost: returned by ``append``, not at the city under that identity with that body, and not
    waiting in the journal either. An event on a page that was destroyed (*damaged*) may be
    missing only if the journal says so itself.
    Duplicated: a token there more than once, one whose append failed, or one never tried.
    """
    there = {(epoch, seq): body for epoch, seq, body in rows}
    lost, destroyed = [], 0
    # Of two that were given one number, at most one is at the city: the other is lost.
    for epoch, seq, body in ledger.returned:
        if there.get((epoch, seq)) == body or body[2] in ledger.waiting:
            continue
        if damaged and any(e == epoch and a <= seq <= b for e, a, b in ledger.gone):
            destroyed += 1
            continue
        how = "altered" if (epoch, seq) in there else "not there"
        lost.append(f"{epoch[:8]} {seq}: {how}")
    count = Counter(body[2] for body in there.values())
    duplicated = [f"{token[-12:]}: {n} times" for token, n in count.items() if n > 1]
    for token in count:
        if token in ledger.failed:
            duplicated.append(f"{token[-12:]}: there although append had failed")
        elif token not in ledger.tried:
            duplicated.append(f"{token[-12:]}: never appended")
    return Verdict(len(ledger.returned), lost, duplicated, destroyed)


def at_city(database: Path, device: str) -> Iterator[tuple[str, int, list[Any]]]:
    """(epoch, seq, body) of every event the city's SQLite file has of *device*.

    None when the city side never lived long enough to make the file or its table.
    """
    if not database.exists():
        return
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'event'").fetchone():
            return
        columns = ", ".join(COLUMNS)
        found = connection.execute(
            f"SELECT epoch, seq, {columns} FROM event WHERE device = ?",  # noqa: S608 - our names
            (device,),
        )
        for epoch, seq, *body in found.fetchall():
            yield epoch, seq, body
    finally:
        connection.close()


def set_aside(database: Path) -> list[str]:
    """Devices the city takes nothing from any more, and why: in a campaign there is no reason."""
    if not database.exists():
        return []
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'device'").fetchone():
            return []
        found = connection.execute("SELECT name, aside FROM device WHERE aside != ''")
        return [f"{name} was set aside: {why}" for name, why in found]
    finally:
        connection.close()
