"""``kaopass bench journal``: durable appends against bare SQLite, and what a month offline takes.

Both write to the same disk in the same run, in turns, one event a transaction, synced before the
next begins. The bare side is one table of one column with as many bytes as a row of the journal
holds: what it takes less is the price of identity, sealing, index and quota.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import JournalError
from agent.base.events import Moment, Passage, PassageEvent, Place
from agent.journal import Journal
from agent.journal.journal import MAX_BYTES
from agent.journal.sealing import Sealer
from agent.lab.disk import Progress

TURNS = 20  # so that both sides meet the same moods of the disk
GOAL_PER_SECOND = 50.0  # requirement H4
GOAL_P99_MS = 50.0


@dataclass(frozen=True, slots=True)
class Appends:
    """Durable appends: their rate, and the median and 99th percentile of one in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Size:
    """What *events* never acknowledged take on the disk, the log included."""

    events: int
    disk_bytes: int
    limit_bytes: int

    @property
    def bytes_per_event(self) -> float:
        return self.disk_bytes / self.events


def compare_appends(folder: Path, events: int, progress: Progress) -> tuple[Appends, Appends]:
    """(journal, bare SQLite) over *events* each, in *folder*. Raises JournalError."""
    taken: tuple[list[float], list[float]] = ([], [])
    with (
        Journal(folder / "journal.db", os.urandom(32)) as journal,
        closing(_bare(folder / "bare.db")) as bare,
    ):
        body = os.urandom(_row_bytes())

        def insert(_number: int) -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO event (body) VALUES (?)", (body,))
            bare.execute("COMMIT")

        sides = ((lambda n: journal.append(boarding(n))), insert)
        for turn in range(TURNS):
            progress("appending", turn / TURNS)
            first, last = (events * at // TURNS for at in (turn, turn + 1))
            # Who goes first changes, so that neither always finds the disk just rested.
            for side in (0, 1) if turn % 2 else (1, 0):
                for number in range(first, last):
                    begun = time.perf_counter()
                    sides[side](number)
                    taken[side].append(time.perf_counter() - begun)
    return _summary(taken[0]), _summary(taken[1])


def measure_size(folder: Path, events: int, progress: Progress) -> Size:
    """Append *events* that nobody acknowledges, and look at the files."""
    with Journal(folder / "journal.db", os.urandom(32)) as journal:
        for number in range(events):
            if number % 500 == 0:
                progress("filling", number / events)
            journal.append(boarding(number))
        stats = journal.stats()
        if stats.pending != events:
            raise JournalError(f"only {stats.pending} of {events} events fit: {stats.lost} lost")
        return Size(events, stats.disk_bytes, MAX_BYTES)


def boarding(number: int) -> PassageEvent:
    """A boarding as a bus sends it; every number is another pseudonym."""
    return PassageEvent(
        Passage.BOARDING,
        "bus",
        f"{number * 0x9E3779B97F4A7C15 % 2**256:064x}",
        Place("bus", "パークバス　1号", "front", f"高森{number % 30}丁目"),
        Moment(
            "2f1c7d5e-9a43-4b1e-8c55-0d6f3c2b1a00", 1_000 * number, 1_790_000_000_000, "ntp", 20
        ),
    )


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 4096")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    return connection


def _row_bytes() -> int:
    """Bytes of content in a row of the journal: the sealed body, epoch, boot, and six numbers."""
    event = boarding(1)
    sealed = Sealer(os.urandom(32)).seal("00" * 16, 1, event)
    return len(sealed) + 16 + len(event.moment.boot) + len(event.moment.clock) + 6 * 8


def _summary(seconds: list[float]) -> Appends:
    ordered = sorted(seconds)
    at = len(ordered) - 1
    return Appends(
        per_second=round(len(ordered) / sum(ordered), 1),
        p50_ms=round(ordered[round(at * 0.5)] * 1000, 3),
        p99_ms=round(ordered[round(at * 0.99)] * 1000, 3),
    )
