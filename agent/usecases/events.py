"""The events this device has recorded: listed, handed out, counted, offered to the city again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TextIO

from agent.base.audit import AuditLog, audited
from agent.base.errors import UsageError
from agent.journal import Entry, Gap, Journal, Stats
from agent.journal.export import write_csv, write_json_lines


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Events *first* to *last* (None: the newest) of these states and kinds (none: of any)."""

    first: int = 1
    last: int | None = None
    states: Collection[str] = ()
    kinds: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class JournalState:
    """Counts over the whole journal, and everything that was ever lost of it."""

    stats: Stats
    gaps: tuple[Gap, ...]


def newest(journal: Journal, limit: int, wanted: EventFilter) -> list[Entry]:
    """The newest *limit* events of *wanted*, the newest last."""
    found = journal.entries(
        first=wanted.first,
        last=wanted.last,
        states=wanted.states,
        kinds=wanted.kinds,
        newest_first=True,
    )
    return list(islice(found, limit))[::-1]


def export(
    journal: Journal,
    out: TextIO,
    form: Literal["csv", "jsonl"],
    wanted: EventFilter,
    *,
    show_persons: bool,
    audit: AuditLog | None,
    actor: str,
) -> int:
    """Write the events of *wanted* to *out*, pseudonyms masked unless *show_persons*; how many."""
    write = write_csv if form == "csv" else write_json_lines
    entries = journal.entries(
        first=wanted.first, last=wanted.last, states=wanted.states, kinds=wanted.kinds
    )
    with audited(audit, actor) as note:
        note("journal.exported", first=wanted.first, last=wanted.last or 0, persons=show_persons)
        return write(entries, out, show_persons=show_persons)


def counts(journal: Journal) -> JournalState:
    """How many events are in which state, and what was ever lost."""
    return JournalState(journal.stats(), tuple(journal.gaps()))


def requeue(
    journal: Journal,
    epoch: str | None,
    first: int,
    last: int | None,
    *,
    audit: AuditLog | None,
    actor: str,
) -> int:
    """Offer quarantined events *first* to *last* of *epoch* to the city once more; how many.

    None: of the present epoch, up to the newest. Raises UsageError if there is no such epoch.
    """
    name = epoch or journal.epoch
    if name not in journal.held():
        raise UsageError(f"--epoch {name}: this journal has {', '.join(journal.held())}")
    end = journal.bounds(name)[1] if last is None else last
    with audited(audit, actor) as note:
        note("journal.requeued", epoch=name, first=first, last=end)
        return journal.requeue(name, first, end)
