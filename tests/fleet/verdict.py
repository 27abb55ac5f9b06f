"""What devices appended against what the city has: by what events say, not by their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from sqlalchemy import select

from agent.cityos.db.database import open_engine
from agent.cityos.db.schema import EVENT


def compare(database: str, appended: Mapping[str, Counter[str]]) -> tuple[int, int]:
    """(events lost, events too many); *appended* counts the ``person`` of events of each device."""
    lost = surplus = 0
    engine = open_engine(database, create=False)
    try:
        with engine.connect() as db:
            for device, expected in appended.items():
                of_device = select(EVENT.c.person).where(EVENT.c.device == device)
                there = Counter(db.execute(of_device).scalars())
                lost += (expected - there).total()
                surplus += (there - expected).total()
    finally:
        engine.dispose()
    return lost, surplus
