"""Events: what happened at a door, as the journal keeps it and the city receives it.

One frozen dataclass a kind, and for each a codec in ``agent.protocol.events``. ``kind`` is the
word it goes by on the wire. Nothing of an event is ever changed: what turns out wrong is said by
another event, a correction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, in a form that survives a wrong clock.

    ``boot`` names the boot that ``mono_ms`` counts from. ``clock`` says where ``wall_ms`` comes
    from: "gnss", "ntp", "saved" or "unset"; ``error_ms`` bounds its error, -1 when unknown.
    """

    boot: str
    mono_ms: int
    wall_ms: int
    clock: str
    error_ms: int

    @property
    def is_known(self) -> bool:
        """Whether ``wall_ms`` is from a clock that was set."""
        return self.clock in ("gnss", "ntp")


@dataclass(frozen=True, slots=True)
class Fix:
    """A raw GNSS fix: degrees times 10^7 (WGS 84), ``accuracy_mm`` -1 when unknown.

    ``age_ms`` is how old it was at the event's moment, by the monotonic clock.
    """

    latitude_e7: int
    longitude_e7: int
    accuracy_mm: int
    age_ms: int


@dataclass(frozen=True, slots=True)
class TimetableStop:
    """Which stop of which trip, as far as it is known; ids and sequence as in the feed (GTFS).

    ``service_date`` is in ISO 8601. ``how`` says where the knowledge is from: "belief", "word" (a
    person's), "announced" or "settings".
    """

    how: str
    feed: str | None = None
    route: str | None = None
    trip: str | None = None
    service_date: str | None = None
    stop_id: str | None = None
    stop_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happened: a door of a vehicle or of a hall, at which stop.

    ``kind`` is "bus" or "hall", ``name`` the vehicle's or the hall's, ``stop`` a stop's name;
    ``timetable`` and ``fix`` are None where nothing is known but the settings.
    """

    kind: str
    name: str
    door: str
    stop: str | None = None
    timetable: TimetableStop | None = None
    fix: Fix | None = None

    @property
    def spot(self) -> tuple[str | int | None, ...]:
        """What tells one stop visit at one door from another: all but how well it is known."""
        at = self.timetable
        known = (at.feed, at.trip, at.service_date, at.stop_id, at.stop_sequence) if at else ()
        return (self.kind, self.name, self.door, self.stop, *known)


class Passage(str, Enum):
    """How a resident passed a door."""

    BOARDING = "boarding"
    ALIGHTING = "alighting"
    CHECK_IN = "check_in"
    CHECK_OUT = "check_out"


@dataclass(frozen=True, slots=True)
class PassageEvent:
    """A recognised resident boarded, alighted, checked in or checked out.

    ``person`` is the resident's pseudonym for ``purpose`` (64 hex digits), never their id.
    """

    passage: Passage
    purpose: str
    person: str
    place: Place
    moment: Moment

    @property
    def kind(self) -> str:
        return self.passage.value


@dataclass(frozen=True, slots=True)
class EnrolmentEvent:
    """A resident was enrolled here; ``purpose`` and ``person`` as in a passage.

    ``sealed`` is what only the city can open (``agent.protocol.consent``).
    """

    kind: ClassVar[str] = "enrolment"

    purpose: str
    person: str
    place: Place
    moment: Moment
    sealed: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EventRef:
    """Which event: the identity that it has everywhere."""

    device: str
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class CorrectionEvent:
    """An earlier event was not as it says.

    ``what`` is what becomes of it: "withdrawn", or "place" where ``place`` holds in its stead.
    ``why`` is who or what says so, for example "undo", "in_and_out" or "belief".
    """

    kind: ClassVar[str] = "correction"

    corrects: EventRef
    what: str
    why: str
    moment: Moment
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class MediumCount:
    """How passing by one ``medium`` ("face", "card" ...) went, over a period.

    ``passage_ms`` is how long its ``passages`` took altogether.
    """

    medium: str
    passages: int
    refusals: int
    fallbacks: int
    passage_ms: int


@dataclass(frozen=True, slots=True)
class ServiceCountEvent:
    """How a door served in the ``period_ms`` that ended at ``moment``; nobody is named."""

    kind: ClassVar[str] = "service_count"

    place: Place
    moment: Moment
    period_ms: int
    media: tuple[MediumCount, ...]


@dataclass(frozen=True, slots=True)
class DoorOpening:
    """A door stood open, by the monotonic clock of the event's boot."""

    door: str
    opened_mono_ms: int
    closed_mono_ms: int


@dataclass(frozen=True, slots=True)
class Load:
    """How many were aboard, by ``source``; may be below zero, as it was counted."""

    passengers: int
    source: str
    quality: str


@dataclass(frozen=True, slots=True)
class StopVisitEvent:
    """A vehicle was at a stop, from arrival to departure; nobody is named.

    ``visit`` tells visits of one stop in one trip apart, from 1. Times are by the monotonic clock
    of the event's boot; ``load`` is the one at departure, None where nobody counts.
    """

    kind: ClassVar[str] = "stop_visit"

    place: Place
    moment: Moment
    visit: int
    arrived_mono_ms: int
    departed_mono_ms: int
    doors: tuple[DoorOpening, ...]
    load: Load | None = None

    @property
    def dwell_ms(self) -> int:
        return self.departed_mono_ms - self.arrived_mono_ms


@dataclass(frozen=True, slots=True)
class CountEvent:
    """How many passed a door since the count before; nobody is named.

    ``source`` is what counted ("apc", "camera", "faces", "driver"), ``quality`` its own word for
    how good that is ("high", "moderate", "low", "error").
    """

    kind: ClassVar[str] = "count"

    place: Place
    moment: Moment
    entered: int
    exited: int
    source: str
    quality: str


@dataclass(frozen=True, slots=True)
class SurveyEvent:
    """Somebody, nobody knows who, answered a question by one tap; both are words, not texts."""

    kind: ClassVar[str] = "survey"

    place: Place
    moment: Moment
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """An event of a kind, or with content, that this version cannot read: kept as it came.

    ``body`` is everything beside identity, kind, moment and ``person``, as JSON with sorted names.
    ``person`` is the pseudonym of whom it is about, "" if it names nobody.
    """

    kind: str
    person: str
    moment: Moment
    body: str = field(repr=False)


Event = (
    PassageEvent
    | EnrolmentEvent
    | CorrectionEvent
    | ServiceCountEvent
    | StopVisitEvent
    | CountEvent
    | SurveyEvent
    | UnknownEvent
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event with the identity it has everywhere: (device, epoch, seq).

    ``corrected_ms`` is the Unix time reckoned afterwards, once the clock was known; None while
    the moment's own ``wall_ms`` is all there is.
    """

    epoch: str
    seq: int
    event: Event
    corrected_ms: int | None = None


TIMETABLE_COLUMNS = ("how", "feed", "route", "trip", "service_date", "stop_id", "stop_sequence")
FIX_COLUMNS = ("latitude_e7", "longitude_e7", "accuracy_mm", "age_ms")
WHERE_COLUMNS = (*TIMETABLE_COLUMNS, *(f"fix_{name}" for name in FIX_COLUMNS))
_NOWHERE: dict[str, str | int | None] = dict.fromkeys(WHERE_COLUMNS)


def where_known(place: Place | None) -> dict[str, str | int | None]:
    """What *place* has only where it is known, by the names in WHERE_COLUMNS; else None."""
    if place is None or (place.timetable is None and place.fix is None):
        return _NOWHERE
    return {
        **{name: getattr(place.timetable, name, None) for name in TIMETABLE_COLUMNS},
        **{f"fix_{name}": getattr(place.fix, name, None) for name in FIX_COLUMNS},
    }


def person_of(event: Event) -> str:
    """The pseudonym of the resident whom *event* is about; "" where it names nobody."""
    if isinstance(event, (PassageEvent, EnrolmentEvent, UnknownEvent)):
        return event.person
    return ""


def place_of(event: Event) -> Place | None:
    """Where *event* happened; None where it does not say, or says so in words not known here."""
    return None if isinstance(event, UnknownEvent) else event.place
