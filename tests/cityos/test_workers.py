"""Any number of workers on one database: each event exactly once, whoever dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.lab.broker import LabBroker
from tests.fleet.workers import killed_in_turns
from tests.postgres import Postgres


@pytest.mark.broker
def test_workers_killed_in_turns_commit_every_event_exactly_once(
    tmp_path: Path, postgres: Postgres
) -> None:
    """The short version of scripts/workers."""
    with LabBroker(tmp_path / "broker", tls=False) as broker:
        outcome = killed_in_turns(
            tmp_path,
            broker,
            postgres.database(),
            devices=3,
            events=800,
            rate=300.0,
            every_seconds=0.5,
            seconds=1.1,
        )
    assert outcome.kills == 2
    assert outcome.events > 2_400
    assert (outcome.lost, outcome.duplicated) == (0, 0)
