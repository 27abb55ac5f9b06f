"""The agent is killed in mid-boarding, again and again: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.line.door import Door, at_city, city, in_journal, people_of
from tests.mosquitto import Mosquitto
from tests.seeds import seed
from tests.waiting import until

KILLS = int(os.environ.get("KAOPASS_TEST_KILLS", "15"))


@pytest.mark.broker
def test_killed_again_and_again_while_boarding_the_city_has_each_event_once(tmp_path: Path) -> None:
    """The ledger is what the agent printed, after the journal had it, up to the moment it died."""
    chance = random.Random(seed(20261128))
    passengers = people_of("players.jpg")
    with (
        Mosquitto(tmp_path / "broker") as broker,
        city(tmp_path, broker) as database,
        Door(tmp_path / "door", broker.port) as door,
    ):
        door.enrol(passengers)
        clip = door.queue_of()
        for _ in range(KILLS):
            door.start(clip)
            door.wait_for("welcome")
            time.sleep(chance.uniform(0.0, 0.6))
            door.kill()
        killed_at = len(door.ledger)
        door.start(clip)
        door.wait_for("welcome")
        door.stop()
        # Nobody boards any more: what is left goes out.
        door.start(door.folder / "empty.png")
        door.wait_for("ready")
        until(
            lambda: len(at_city(database)) >= len(in_journal(door)),
            "the rest to arrive",
            seconds=90,
        )
        door.stop()
        journal, received = in_journal(door), at_city(database)
    assert killed_at >= KILLS, "every life of the agent should have seen somebody board"
    assert received == journal
    epochs = {epoch for epoch, _, _ in journal}
    assert len(epochs) == 1, "a kill must not damage the journal"
    assert [seq for _, seq, _ in journal] == list(range(1, len(journal) + 1))
    known = {(epoch, seq) for epoch, seq, _ in received}
    assert set(door.ledger) <= known
    assert len(set(door.ledger)) == len(door.ledger), "an event was announced twice"
