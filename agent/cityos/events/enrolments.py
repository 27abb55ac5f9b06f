"""Enrolments that came from devices, each once, until somebody has settled them.

Functions on a connection inside a transaction. What is sealed is a resident's biometric data, so
it leaves the database in the transaction that settles it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, select, update

from agent.base.errors import CityError
from agent.base.events import EnrolmentEvent, StoredEvent
from agent.cityos.db.schema import ENROLMENT
from agent.cityos.events.sequence import Key, of

NEW, TAKEN, REFUSED = "new", "taken", "refused"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An enrolment nobody has settled yet; ``sealed`` is for the city's enrolment key."""

    device: str
    epoch: str
    seq: int
    sealed: bytes = field(repr=False)
    received_ms: int


def note(
    db: Connection, insert: Any, device: str, events: Iterable[StoredEvent], now_ms: int
) -> None:
    """Keep what the enrolments among *events* carry; those that are there already stay as they are.

    Call in the transaction that commits the events.
    """
    rows = [
        {
            **{"device": device, "epoch": stored.epoch, "seq": stored.seq, "state": NEW},
            **{"sealed": base64.b64encode(stored.event.sealed).decode("ascii"), "reason": ""},
            "received_ms": now_ms,
        }
        for stored in events
        if isinstance(stored.event, EnrolmentEvent)
    ]
    if rows:
        db.execute(insert(ENROLMENT).on_conflict_do_nothing(), rows)


def waiting(db: Connection, limit: int) -> list[Waiting]:
    """The oldest that wait, held until the transaction ends; those another worker holds are not."""
    wanted = (
        select(ENROLMENT)
        .where(ENROLMENT.c.state == NEW)
        .order_by(ENROLMENT.c.received_ms, ENROLMENT.c.device, ENROLMENT.c.epoch, ENROLMENT.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [
        Waiting(row.device, row.epoch, row.seq, base64.b64decode(row.sealed), row.received_ms)
        for row in db.execute(wanted).all()
    ]


def settle(db: Connection, key: Key, seq: int, state: str, reason: str = "") -> None:
    """The enrolment *seq* of *key* is "taken" or "refused"; what was sealed is gone.

    Raises CityError if it does not wait.
    """
    mine = update(ENROLMENT).where(*of(ENROLMENT, key), ENROLMENT.c.seq == seq)
    done = db.execute(
        mine.where(ENROLMENT.c.state == NEW).values(state=state, reason=reason, sealed="")
    )
    if done.rowcount != 1:
        raise CityError(f"enrolment {seq} of {key[0]} does not wait to be settled")


def prune(db: Connection, key: Key, floor: int) -> None:
    """Forget settled ones up to *floor*, whose events are deleted."""
    old = delete(ENROLMENT).where(*of(ENROLMENT, key), ENROLMENT.c.seq <= floor)
    db.execute(old.where(ENROLMENT.c.state != NEW))
