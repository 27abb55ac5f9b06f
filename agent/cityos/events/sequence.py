"""How complete one device's sequence of one epoch is: where it runs to, and what is missing.

Functions on a connection inside a transaction that holds the sequence's row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select

from agent.cityos.db.schema import EVENT, GAP, REJECTED

Key = tuple[str, str]  # device, epoch
Span = tuple[int, int]  # first, last, both inclusive

_STEP = 1_000


def of(table: Table, key: Key) -> tuple[Any, Any]:
    """The conditions that select *key* in *table*."""
    return table.c.device == key[0], table.c.epoch == key[1]


def spans(numbers: Iterable[int]) -> tuple[Span, ...]:
    """*numbers* as inclusive ranges, in order."""
    found: list[Span] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def run_on(db: Connection, key: Key, upto: int) -> int:
    """Follow what the city has an answer for beyond *upto*, as far as there is no hole."""
    while True:
        begun = upto
        over = select(func.max(GAP.c.last)).where(
            *of(GAP, key), GAP.c.first <= upto + 1, GAP.c.last > upto
        )
        upto = db.execute(over).scalar() or upto
        for (seq,) in db.execute(_numbers(key, upto).limit(_STEP)):
            if seq > upto + 1:
                break
            upto = seq
        if upto == begun:
            return upto


def missing(db: Connection, key: Key, first: int, last: int) -> Iterator[Span]:
    """What is neither an event, nor rejected, nor a known gap, from *first* to *last*, in order."""
    gaps = select(GAP.c.first, GAP.c.last).where(
        *of(GAP, key), GAP.c.first <= last, GAP.c.last >= first
    )
    known = sorted(tuple(row) for row in db.execute(gaps))
    at = 0
    for (seq,) in (*db.execute(_numbers(key, first - 1, last + 1)), (last + 1,)):
        while at < len(known) and known[at][0] <= seq:
            if known[at][0] > first:
                yield first, known[at][0] - 1
            first = max(first, known[at][1] + 1)
            at += 1
        if seq > first:
            yield first, seq - 1
        first = max(first, seq + 1)


def note_gaps(
    db: Connection, insert: Any, key: Key, first: int, last: int, reason: str, now_ms: int
) -> None:
    """What is missing from *first* to *last* will never come: write it down, once."""
    rows = [
        {
            **{"device": key[0], "epoch": key[1], "first": begin, "last": end},
            **{"noted_ms": now_ms, "reason": reason},
        }
        for begin, end in missing(db, key, first, last)
    ]
    if rows:
        db.execute(insert(GAP).on_conflict_do_nothing(), rows)


def close_gaps(db: Connection, insert: Any, key: Key, numbers: Iterable[int]) -> None:
    """*numbers* came after all: they are in no gap any more."""
    here = set(numbers)
    touched = select(GAP).where(*of(GAP, key), GAP.c.first <= max(here), GAP.c.last >= min(here))
    for row in db.execute(touched).all():
        came = sorted(seq for seq in here if row.first <= seq <= row.last)
        if not came:
            continue
        db.execute(delete(GAP).where(*of(GAP, key), GAP.c.first == row.first))
        first = row.first
        for seq in (*came, row.last + 1):
            if seq > first:
                rest = {**row._mapping, "first": first, "last": seq - 1}
                db.execute(insert(GAP).on_conflict_do_nothing(), rest)
            first = seq + 1


def _numbers(key: Key, after: int, before: int | None = None) -> Any:
    """Numbers of events and rejected ones beyond *after*, in order."""
    parts = []
    for table in (EVENT, REJECTED):
        part = select(table.c.seq).where(*of(table, key), table.c.seq > after)
        parts.append(part if before is None else part.where(table.c.seq < before))
    return parts[0].union_all(parts[1]).order_by("seq")
