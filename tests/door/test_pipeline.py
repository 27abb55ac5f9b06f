"""The loop at the door: journal first, lamp second, once a visit, never a stranger."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from agent.base.errors import JournalError
from agent.base.events import Event, Place, StoredEvent, person_of
from agent.base.values import Candidate, DoorSignal, Face, Frame, Image, Vector
from agent.door.inputs import Inputs
from agent.door.pipeline import Conduct, Pipeline
from agent.door.recogniser import Recogniser, Step
from agent.door.recorder import Recorder
from agent.journey.boarding import BoardingRules
from agent.keys.pseudonym import Pseudonyms
from agent.recognition.decision import Decider, Rule
from agent.sim.clock import SimClock
from agent.sim.patches import PatchDetector, PatchEmbedder, PatchLiveness, picture, queue
from agent.vision.liveness import Liveness
from agent.vision.quality import QualityGate

ANN, BEN, EVE, ZOE = 40, 90, 203, 205
KNOWN = {ANN: "ann", BEN: "ben"}


RULE = Rule(0.5, 0.05, 3, 8)


class PatchSearch:
    def __init__(self, known: dict[int, str] = KNOWN) -> None:
        self._rows = {who % 8: name for who, name in known.items()}

    def search(self, probes: Vector) -> list[Candidate]:
        return [
            Candidate(self._rows[int(p.argmax())], 1.0, 0.0)
            if int(p.argmax()) in self._rows
            else Candidate("ann", 0.0, 0.0)
            for p in probes
        ]


class Clip:
    def __init__(self, frames: list[Frame | None]) -> None:
        """None stands for a while in which the camera is gone."""
        self._frames = frames

    @property
    def state(self) -> str:
        if not self._frames:
            return "ended"
        return "lost" if self._frames[0] is None else "running"

    def get(self, timeout_seconds: float) -> Frame | None:
        return self._frames.pop(0) if self._frames else None


class Door:
    """Everything the loop talks to, in one place and in one order."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.frames_at: list[int] = []  # at each of these, how many frames had come
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.alarms: dict[str, str] = {}
        self.broken_appends = 0

    def append(self, event: Event) -> StoredEvent:
        if self.broken_appends:
            self.broken_appends -= 1
            raise JournalError("journal: disk full")
        self.events.append(event)
        self._note("journalled")
        return StoredEvent("epoch", len(self.events), event)

    def recent(self, limit: int) -> list[StoredEvent]:
        return []

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        self._note(signal.name)

    def _note(self, what: str) -> None:
        self.happened.append(what)
        self.frames_at.append(self.counts["frames"])

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] += by

    def alarm(self, key: str, text: str) -> None:
        self.alarms[key] = text

    def clear(self, key: str) -> None:
        self.alarms.pop(key, None)

    def turn(self) -> None:
        self.counts["turns"] += 1

    def saw(self, step: Step) -> None:
        self.counts["seen"] += 1


@dataclass
class Town:
    """Who may be matched: everybody, unless told otherwise."""

    admits: Callable[[str], bool] = lambda _person: True
    on: bool = True

    def nickname(self, person: str) -> str:
        return ""

    def between(self, recogniser: Recogniser) -> None:
        """Nobody comes or goes."""


def clip(*pictures: Image, still: bool = False) -> list[Frame]:
    return [Frame(p, i, 100 * i, 9_000 + 100 * i, still) for i, p in enumerate(pictures)]


class BrokenAtTimes(PatchEmbedder):
    """Gives values that are no numbers from the second view on, for *times* views."""

    def __init__(self, times: int) -> None:
        self._left = times
        self._views = 0

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        self._views += 1
        rows = super().embed(image, faces)
        if self._views > 1 and self._left:
            self._left -= 1
            rows[:] = np.nan
        return rows


def stages(
    search: PatchSearch, embedder: PatchEmbedder, liveness: Liveness | None = None
) -> Recogniser:
    return Recogniser(
        PatchDetector(),
        embedder,
        QualityGate(28, 1, 5, 250, 0.6),
        Decider(search, RULE),
        lost_ms=250,
        max_faces=8,
        max_frames=8,
        liveness=liveness,
    )


def run(
    door: Door,
    frames: Sequence[Frame | None],
    on_failure: Literal["refuse", "admit"] = "refuse",
    repeat_ms: int = 120_000,
    embedder: PatchEmbedder | None = None,
    liveness: Liveness | None = None,
    town: Town | None = None,
) -> None:
    rules = BoardingRules(
        Pseudonyms(lambda _purpose: bytes(32)),
        Place("bus", "bus-7", "front"),
        direction="in",
        repeat_ms=repeat_ms,
    )
    Pipeline(
        Clip(list(frames)),
        Inputs(),
        stages(PatchSearch(), embedder or PatchEmbedder(), liveness),
        Recorder(rules, door, SimClock()),
        town or Town(),
        door,
        door,
        Conduct(1_000, 1_500, on_failure, goodbye=False),
    ).run(threading.Event())
    assert door.counts["turns"] > door.counts["seen"]


def test_a_known_person_is_journalled_once_and_welcomed_after_it() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 100 + 2 * i)) for i in range(12)]))
    assert door.happened == ["journalled", "welcome"]


def test_the_event_carries_the_moment_the_face_was_seen() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 100)) for _ in range(3)]))
    moment = door.events[0].moment
    assert moment.mono_ms == 9_200
    assert moment.wall_ms == 1_790_000_010_000 - 800


def test_who_is_not_admitted_makes_no_event_and_is_offered_the_usual_way() -> None:
    door = Door()
    people = [picture((ANN, 20), (BEN, 200)) for _ in range(60)]  # ben's welcome comes first
    run(door, clip(*people), town=Town(lambda person: person != "ann"))
    assert len(door.events) == 1
    assert sorted(door.happened) == ["fallback", "journalled", "welcome"]
    assert door.counts["matches_not_admitted"] > 0


def test_a_track_decided_on_makes_no_event_once_the_person_is_revoked() -> None:
    """The journal fails first, so the match is tried again each frame: then it is too late."""
    door = Door()
    door.broken_appends = 3
    run(
        door,
        clip(*[picture((ANN, 100)) for _ in range(15)]),
        town=Town(lambda _person: door.counts["journal_failures"] < 3),
    )
    assert door.counts["journal_failures"] == 3
    assert door.events == []


def test_with_faces_off_the_usual_way_is_offered_at_once() -> None:
    door = Door()
    frames = clip(*[picture((ANN, 100)) for _ in range(2)])
    run(door, frames, town=Town(lambda _person: False, on=False))
    assert door.happened == ["fallback"]


def test_a_stranger_leaves_no_event_and_is_offered_the_usual_way_in_time() -> None:
    door = Door()
    run(door, clip(*[picture((EVE, 100)) for _ in range(15)]))
    assert door.happened == ["fallback"]
    assert door.events == []
    assert door.counts["strangers"] == 1


def test_a_stranger_who_only_passes_by_is_told_nothing() -> None:
    door = Door()
    run(door, clip(*[picture((EVE, 100)) for _ in range(5)]))
    assert door.happened == []


def test_the_one_behind_is_not_sent_away_while_the_one_in_front_is_being_welcomed() -> None:
    """Eve waits behind for 0.8 s; Ann steps up, is welcomed at 1.0 s and goes on at 2.0 s."""
    door = Door()
    behind = [queue((EVE, 200, 40)) for _ in range(8)]
    both = [queue((EVE, 200, 40), (ANN, 60, 60)) for _ in range(12)]
    run(door, clip(*behind, *both, *behind[:4]))
    assert door.happened == ["journalled", "welcome"]
    # Ann's welcome is shown for 1.5 s, until 2.5 s; then Eve has had her turn.
    door = Door()
    run(door, clip(*behind, *both, *behind[:6]))
    assert door.happened == ["journalled", "welcome", "fallback"]


def test_nobody_behind_is_sent_away_before_the_one_in_front() -> None:
    """Eve has waited for 0.8 s when Zoe steps before her: both get their answer after Zoe's 1 s."""
    door = Door()
    behind = [queue((EVE, 200, 40)) for _ in range(8)]
    both = [queue((EVE, 200, 40), (ZOE, 60, 60)) for _ in range(10)]
    run(door, clip(*behind, *both))
    assert door.happened == []
    door = Door()
    run(door, clip(*behind, *both, *both[:3]))
    assert door.happened == ["fallback"]


def test_a_face_in_front_that_comes_and_goes_does_not_keep_others_waiting_for_ever() -> None:
    """Zoe jumps about, is another track each 0.4 s and so has never waited; Eve stands behind."""
    here = [queue((EVE, 240, 40), (ZOE, 10, 60)) for _ in range(4)]
    there = [queue((EVE, 240, 40), (ZOE, 130, 60)) for _ in range(4)]
    door = Door()
    run(door, clip(*(here + there) * 2))
    assert door.happened == []
    door = Door()
    run(door, clip(*(here + there) * 3))
    assert door.happened == ["fallback"]


@pytest.mark.parametrize("after", [30, 37])
def test_a_stranger_in_the_place_of_who_was_welcomed_gets_the_fallback_in_time(after: int) -> None:
    """Within 0.7 s the track is looked at again, then 3 views decide; the fallback 1 s later."""
    door = Door()
    run(door, clip(*[picture((ANN, 100))] * after, *[picture((EVE, 100))] * 30))
    assert door.happened == ["journalled", "welcome", "fallback"]
    assert 10 <= door.frames_at[-1] - after <= 21
    assert door.counts["contradicted_after_event"] == 1


@pytest.mark.parametrize("after", [30, 37])
def test_who_comes_into_the_track_of_who_was_welcomed_is_welcomed_soon(after: int) -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 100))] * after, *[picture((BEN, 100))] * 30))
    assert door.happened == ["journalled", "welcome"] * 2
    assert door.frames_at[-1] - after <= 15


def test_who_was_told_the_usual_way_and_stays_is_not_told_again() -> None:
    door = Door()
    run(door, clip(*[picture((EVE, 100))] * 60))
    assert door.happened == ["fallback"]


def test_a_track_long_looked_at_is_decided_anew_at_once_against_another_gallery() -> None:
    """Without it everybody who is at the door when a gallery comes would wait for 2 s."""
    recogniser = stages(PatchSearch(), PatchEmbedder())
    for frame in clip(*[picture((EVE, 100))] * 20):
        assert all(d.person is None for d in recogniser.process(frame).decisions)
    recogniser.use(PatchSearch({EVE: "eve"}), RULE)
    later = [Frame(picture((EVE, 100)), 20 + i, 2_000 + 100 * i, 0) for i in range(3)]
    found = [recogniser.process(frame).decisions for frame in later]
    assert [d.person for d in found[-1]] == ["eve"]


def test_two_people_at_once_are_two_events() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 20), (BEN, 200)) for _ in range(6)]))
    assert len({person_of(event) for event in door.events}) == 2
    assert door.happened.count("welcome") == 2


def test_coming_back_at_the_same_stop_is_greeted_but_not_counted_again() -> None:
    door = Door()
    gone = [picture() for _ in range(5)]
    here = [picture((ANN, 100)) for _ in range(5)]
    run(door, clip(*here, *gone, *here))
    assert door.happened == ["journalled", "welcome", "again"]


@pytest.mark.parametrize(
    ("on_failure", "told"),
    [
        # Out of service lasts until the door is ready again: without that the lamp stays red.
        ("refuse", ["out_of_service", "journalled", "ready", "welcome"]),
        ("admit", ["welcome", "journalled", "welcome"]),
    ],
)
def test_while_the_journal_fails_nobody_is_counted_and_it_is_tried_again(
    on_failure: Literal["refuse", "admit"], told: list[str]
) -> None:
    door = Door()
    door.broken_appends = 2
    run(door, clip(*[picture((ANN, 100)) for _ in range(8)]), on_failure)
    assert door.happened == told
    assert door.counts["journal_failures"] == 2
    assert door.alarms == {}


def test_the_door_is_ready_again_once_and_not_with_every_event() -> None:
    door = Door()
    door.broken_appends = 1
    here = [picture((ANN, 20)) for _ in range(6)]
    run(door, clip(*here, *[picture((ANN, 20), (BEN, 200)) for _ in range(6)]))
    assert door.happened == [
        "out_of_service",
        "journalled",
        "ready",
        "welcome",
        "journalled",
        "welcome",
    ]


def test_an_unwritable_journal_raises_an_alarm_that_stays() -> None:
    door = Door()
    door.broken_appends = 99
    run(door, clip(*[picture((ANN, 100)) for _ in range(8)]))
    assert "disk full" in door.alarms["journal"]
    assert door.events == []


def test_a_lost_camera_is_told_once_and_its_return_once() -> None:
    door = Door()
    dark = Frame(picture(), 0, 0, 9_000)
    run(door, [dark, None, None, None, dark, dark])
    assert door.happened == ["out_of_service", "ready"]


def test_a_photograph_is_answered_on_the_spot() -> None:
    door = Door()
    run(door, clip(picture((ANN, 20), (EVE, 200)), still=True))
    assert sorted(door.happened) == ["fallback", "journalled", "welcome"]


def test_photographs_do_not_continue_one_another() -> None:
    door = Door()
    run(door, clip(*[picture((EVE, 100)) for _ in range(4)], still=True))
    assert door.counts["strangers"] == 4


def test_a_network_that_stops_giving_numbers_is_an_alarm_and_a_lamp_and_not_nobody() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 100)) for _ in range(9)]), embedder=BrokenAtTimes(99))
    assert door.happened == ["out_of_service"]
    assert "not numbers" in door.alarms["model"]
    assert door.counts["model_failures"] == 8


def test_a_photograph_of_somebody_known_makes_no_event() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 100))] * 9), liveness=Liveness(PatchLiveness(), min_frames=3))
    assert door.events == []
    door = Door()
    run(door, clip(*[picture((BEN, 100))] * 9), liveness=Liveness(PatchLiveness(), min_frames=3))
    assert door.happened == ["journalled", "welcome"]


def test_a_liveness_network_that_gives_no_numbers_is_an_alarm_and_not_nobody_alive() -> None:
    class NoNumbers:
        pack = "liveness"

        def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
            del image
            return np.full(len(faces), np.nan, np.float32)

    door = Door()
    run(door, clip(*[picture((ANN, 100))] * 9), liveness=Liveness(NoNumbers()))
    assert door.happened == ["out_of_service"]
    assert "liveness network's output is not numbers" in door.alarms["model"]


def test_after_a_network_has_come_back_the_door_is_ready_and_recognises_again() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 100)) for _ in range(9)]), embedder=BrokenAtTimes(2))
    assert door.happened == ["out_of_service", "ready", "journalled", "welcome"]
    assert door.alarms == {}


def test_every_view_not_used_is_counted_by_its_reason() -> None:
    door = Door()
    run(door, clip(*[picture((ANN, 290)) for _ in range(4)]))
    assert door.counts["faces"] == 4
    assert door.counts["faces_cut_off"] == 4
