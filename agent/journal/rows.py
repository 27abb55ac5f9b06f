"""Rows of the journal read back: selected, unsealed, as values."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from agent.base.events import Moment, StoredEvent
from agent.journal.database import Database
from agent.journal.entries import Entry
from agent.journal.sealing import Sealer

MAX_SEQ = 2**63 - 1
ROWS_AT_ONCE = 500
SELECT = (
    "SELECT id, lower(hex(epoch)), seq, state, code, boot, mono_ms, wall_ms, clock, error_ms,"
    " corrected_ms, acked_ms, sealed FROM event "
)


class Rows:
    """Reads events from *db* with the key in *sealer*."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db = db
        self._sealer = sealer

    def where(self, condition: str, values: tuple[Any, ...]) -> list[tuple[int, Entry]]:
        """(id, entry) of the rows that the SQL after FROM, *condition*, leaves."""
        return [
            (row[0], self._entry(*row[1:])) for row in self._db.rows(SELECT + condition, values)
        ]

    def entries(
        self,
        first: int,
        last: int,
        states: Collection[str],
        kinds: Collection[str],
        newest_first: bool,
    ) -> Iterator[Entry]:
        """Rows in order of their writing, read in small steps.

        A slow reader in one long transaction would keep the agent's log from starting over.
        """
        condition = (
            "WHERE id < ? AND seq BETWEEN ? AND ? ORDER BY id DESC LIMIT ?"
            if newest_first
            else "WHERE id > ? AND seq BETWEEN ? AND ? ORDER BY id LIMIT ?"
        )
        at = MAX_SEQ if newest_first else -1
        while rows := self.where(condition, (at, first, last, ROWS_AT_ONCE)):
            at = rows[-1][0]
            for _, entry in rows:
                kind = entry.event.kind if entry.event else ""
                if (not states or entry.state in states) and (not kinds or kind in kinds):
                    yield entry

    def _entry(
        self,
        epoch: str,
        seq: int,
        state: str,
        code: str,
        boot: str,
        mono_ms: int,
        wall_ms: int,
        clock: str,
        error_ms: int,
        corrected_ms: int | None,
        acked_ms: int | None,
        sealed: bytes,
    ) -> Entry:
        moment = Moment(boot, mono_ms, wall_ms, clock, error_ms)
        event = self._sealer.unseal(epoch, seq, moment, sealed)
        return Entry(epoch, seq, state, code, moment, corrected_ms, acked_ms, event)


def as_stored(entry: Entry) -> StoredEvent | None:
    """*entry* as it is sent; None when it is damaged."""
    if entry.event is None:
        return None
    return StoredEvent(entry.epoch, entry.seq, entry.event, entry.corrected_ms)
