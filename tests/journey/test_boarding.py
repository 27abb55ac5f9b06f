"""When a recognised person is an event: once at one stop visit, and under a pseudonym."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from agent.base.events import (
    CountEvent,
    EnrolmentEvent,
    Fix,
    Moment,
    Passage,
    PassageEvent,
    Place,
    StoredEvent,
    TimetableStop,
)
from agent.journey.boarding import BoardingRules
from agent.keys.pseudonym import Pseudonyms

START = Moment("boot-a", 1_000_000, 1_790_000_000_000, "ntp", 5)
FRONT = Place("bus", "bus-7", "front", "stop-1")


def key_for(purpose: str) -> bytes:
    return hashlib.sha256(purpose.encode()).digest()


def rules(place: Place = FRONT, direction: str = "in") -> BoardingRules:
    return BoardingRules(Pseudonyms(key_for), place, direction=direction, repeat_ms=120_000)


def later(seconds: float) -> Moment:
    return replace(START, mono_ms=START.mono_ms + int(seconds * 1000))


def board(door: BoardingRules, person: str, moment: Moment) -> PassageEvent | None:
    event = door.event_for(person, moment)
    if event is not None:
        door.committed(event)
    return event


def test_looking_twice_at_one_stop_is_one_boarding() -> None:
    door = rules()
    assert board(door, "r1", START) is not None
    assert board(door, "r1", later(119.9)) is None
    assert board(door, "r1", later(120)) is not None


def test_another_stop_is_another_boarding() -> None:
    door = rules()
    assert board(door, "r1", START) is not None
    door.moved(replace(FRONT, stop="stop-2"))
    assert board(door, "r1", later(60)) is not None


def test_another_visit_of_the_same_stop_is_another_boarding_a_better_fix_is_none() -> None:
    stop = TimetableStop("belief", "feed", "12", "trip-1", "2026-11-28", "0417_02", 9)
    here = replace(FRONT, timetable=stop, fix=Fix(383_219_000, 1_408_817_000, 4_200, 350))
    door = rules(here)
    assert board(door, "r1", START) is not None
    door.moved(replace(here, timetable=replace(stop, how="word"), fix=None))
    assert board(door, "r1", later(60)) is None
    for change in ({"trip": "trip-2"}, {"stop_sequence": 31}, {"service_date": "2026-11-29"}):
        door.moved(replace(here, timetable=replace(stop, **change)))
        assert board(door, "r1", later(60)) is not None, change


def test_what_is_no_passage_is_not_remembered_as_one() -> None:
    door = rules()
    passage = door.event_for("r1", START)
    assert passage is not None
    enrolled = EnrolmentEvent("bus", passage.person, FRONT, START, b"sealed")
    count = CountEvent(FRONT, START, 1, 0, "faces", "low")
    door.remember([StoredEvent("e", 1, enrolled), StoredEvent("e", 2, count)], boot="boot-a")
    assert door.event_for("r1", later(30)) == replace(passage, moment=later(30))


def test_two_people_at_one_moment_are_two_boardings() -> None:
    door = rules()
    first, second = board(door, "r1", START), board(door, "r2", START)
    assert first is not None
    assert second is not None
    assert first.person != second.person


def test_an_event_that_was_not_committed_may_happen_again() -> None:
    door = rules()
    assert door.event_for("r1", START) is not None
    assert door.event_for("r1", later(1)) is not None


def test_after_a_restart_the_journal_still_knows_who_just_boarded() -> None:
    event = board(rules(), "r1", START)
    assert event is not None
    door = rules()
    door.remember([StoredEvent("e", 1, event)], boot="boot-a")
    assert door.event_for("r1", later(30)) is None
    rebooted = rules()
    rebooted.remember([StoredEvent("e", 1, event)], boot="boot-b")
    assert rebooted.event_for("r1", later(30)) is not None


@pytest.mark.parametrize(
    ("kind", "direction", "expected"),
    [
        ("bus", "in", Passage.BOARDING),
        ("bus", "out", Passage.ALIGHTING),
        ("hall", "in", Passage.CHECK_IN),
        ("hall", "out", Passage.CHECK_OUT),
    ],
)
def test_kind_and_direction_name_the_event(kind: str, direction: str, expected: Passage) -> None:
    event = board(rules(replace(FRONT, kind=kind), direction), "r1", START)
    assert event is not None
    assert (event.passage, event.purpose) == (expected, kind)


def test_a_pseudonym_is_steady_says_nothing_and_differs_by_purpose_and_key() -> None:
    names = Pseudonyms(key_for)
    bus, hall = names.of("resident-42", "bus"), names.of("resident-42", "hall")
    assert bus == names.of("resident-42", "bus")
    assert len(bus) == 64
    assert int(bus, 16) >= 0
    assert bus != hall
    assert Pseudonyms(lambda _p: bytes(32)).of("resident-42", "bus") != bus
    assert "42" not in bus or hashlib.sha256(b"resident-42").hexdigest() != bus
