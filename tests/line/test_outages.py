"""People board while the broker or the city side is away: every boarding arrives afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.line.door import Door, at_city, city, in_journal, people_of
from tests.mosquitto import Mosquitto
from tests.waiting import until


@pytest.fixture
def door(tmp_path: Path, mosquitto: Mosquitto) -> Door:
    door = Door(tmp_path / "door", mosquitto.port)
    door.enrol(people_of("t1.jpg"))
    return door


def boarded(door: Door, least: int) -> None:
    until(lambda: len(door.ledger) >= least, f"{least} boardings")


def test_boardings_while_the_broker_is_away_arrive_when_it_is_back(
    tmp_path: Path, door: Door, mosquitto: Mosquitto
) -> None:
    with door, city(tmp_path, mosquitto) as database:
        door.start(door.queue_of("t1.jpg"))
        boarded(door, 3)
        until(lambda: at_city(database), "the first events at the city")
        mosquitto.kill()
        boarded(door, len(door.ledger) + 12)
        away = len(at_city(database))
        assert away < len(door.ledger)
        mosquitto.start()
        door.stop()
        door.start(door.folder / "empty.png")
        door.wait_for("ready")
        until(lambda: len(at_city(database)) >= len(in_journal(door)), "the rest", seconds=90)
        door.stop()
        assert at_city(database) == in_journal(door)


def test_boardings_while_the_city_side_is_away_arrive_when_it_is_back(
    tmp_path: Path, door: Door, mosquitto: Mosquitto
) -> None:
    with door:
        with city(tmp_path, mosquitto) as database:
            door.start(door.queue_of("t1.jpg"))
            until(lambda: at_city(database), "the first events at the city")
        before = len(at_city(database))
        boarded(door, len(door.ledger) + 12)
        assert len(at_city(database)) == before
        with city(tmp_path, mosquitto):
            door.stop()
            door.start(door.folder / "empty.png")
            door.wait_for("ready")
            until(lambda: len(at_city(database)) >= len(in_journal(door)), "the rest", seconds=90)
        door.stop()
        assert at_city(database) == in_journal(door)
