"""Events to test with: no person, made up and all alike but for their number."""

from __future__ import annotations

import random

from agent.base.events import (
    CorrectionEvent,
    CountEvent,
    DoorOpening,
    EnrolmentEvent,
    Event,
    EventRef,
    Fix,
    Load,
    MediumCount,
    Moment,
    Passage,
    PassageEvent,
    Place,
    ServiceCountEvent,
    StopVisitEvent,
    StoredEvent,
    SurveyEvent,
    TimetableStop,
    UnknownEvent,
)

EPOCH = "0123456789abcdef0123456789abcdef"
OTHER_EPOCH = "fedcba9876543210fedcba9876543210"


def make_event(number: int = 1, *, stop: str | None = "高森三丁目") -> PassageEvent:
    return PassageEvent(
        passage=Passage.BOARDING,
        purpose="bus",
        person=f"{number:064x}",
        place=Place("bus", "パークバス　1号", "front", stop),
        moment=Moment("3f1c9e2a-boot", 1_000 + number, 1_790_000_000_000 + number, "ntp", 50),
    )


def stored(seq: int, *, epoch: str = EPOCH, stop: str | None = "高森三丁目") -> StoredEvent:
    return StoredEvent(epoch, seq, make_event(seq, stop=stop))


BUS = Place("bus", "パークバス　1号", "front", "高森三丁目")
# All that a place can say.
KNOWN = Place(
    *("bus", "パークバス　1号", "rear", "高森三丁目"),
    TimetableStop("belief", "izumi", "12", "平日_0812", "2026-11-28", "0417_02", 9),
    Fix(383_219_000, 1_408_817_000, 4_200, 350),
)


def one_of_each(moment: Moment | None = None) -> list[Event]:
    """An event of every kind, and one of a kind that this version does not know."""
    when = moment or make_event().moment
    person = f"{77:064x}"
    opening = DoorOpening("front", 81_200, 90_100)
    return [
        *(PassageEvent(passage, "bus", person, BUS, when) for passage in Passage),
        PassageEvent(Passage.BOARDING, "bus", person, KNOWN, when),
        EnrolmentEvent("hall", person, Place("hall", "高森公民館", "main"), when, b"\x00sealed"),
        CorrectionEvent(EventRef("bus-7", EPOCH, 8), "withdrawn", "undo", when),
        CorrectionEvent(EventRef("bus-7", EPOCH, 8), "place", "belief", when, KNOWN),
        ServiceCountEvent(BUS, when, 3_600_000, (MediumCount("face", 61, 2, 5, 73_200),)),
        ServiceCountEvent(BUS, when, 0, ()),
        StopVisitEvent(KNOWN, when, 1, 80_000, 91_500, (opening,), Load(-2, "apc", "low")),
        StopVisitEvent(BUS, when, 2, 80_000, 80_000, ()),
        CountEvent(KNOWN, when, 3, 1, "apc", "high"),
        SurveyEvent(BUS, when, "satisfaction", "good"),
        UnknownEvent("weather", person, when, '{"place":{"kind":"sky"},"rain_mm":[1,null,0.5]}'),
    ]


def make_enrolment(number: int = 1, *, size: int = 40_000) -> EnrolmentEvent:
    """One whose sealed part, of *size* bytes, looks as random as a real one and is the same each
    time."""
    event = make_event(number)
    sealed = random.Random(number).randbytes(size)
    return EnrolmentEvent(event.purpose, event.person, event.place, event.moment, sealed)


def enrolment(seq: int, *, size: int = 40_000, epoch: str = EPOCH) -> StoredEvent:
    return StoredEvent(epoch, seq, make_enrolment(seq, size=size))
