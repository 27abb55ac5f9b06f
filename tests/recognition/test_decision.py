"""What a sequence of views decides: sure, unsure, contradicted, or nothing at all."""

from __future__ import annotations

import numpy as np

from agent.base.values import (
    Candidate,
    Decision,
    Face,
    Frame,
    Outcome,
    Quality,
    TrackedFace,
    Vector,
)
from agent.recognition.decision import Decider, Rule
from tests.vectors import unit

RULE = Rule(threshold=0.4, min_margin=0.08, min_frames=3, max_frames=8)
RNG = np.random.default_rng(3)


def direction(seed: int) -> Vector:
    return unit(np.random.default_rng(seed).normal(size=512))


def view(person: Vector, similarity: float) -> Vector:
    """A unit vector at cosine *similarity* to *person*, otherwise random."""
    noise = RNG.normal(size=512)
    noise -= noise @ person * person
    return unit(similarity * person + np.sqrt(1 - similarity**2) * noise / np.linalg.norm(noise))


class People:
    """An exact search over a few people, one template each."""

    def __init__(self, **people: Vector) -> None:
        self.people = people

    def search(self, probes: Vector) -> list[Candidate]:
        found = []
        for probe in probes:
            ranked = sorted(((float(t @ probe), p) for p, t in self.people.items()), reverse=True)
            ranked += [(-1.0, "")] * 2
            best = ranked[0][1] or None
            found.append(Candidate(best, ranked[0][0], ranked[1][0]))
        return found


ANN, BEN, EVE = direction(1), direction(2), direction(9)
PEOPLE = People(ann=ANN, ben=BEN)


def frame(index: int, still: bool = False) -> Frame:
    return Frame(np.zeros((4, 4, 3), dtype=np.uint8), index, 66 * index, 66 * index, still)


def look(reason: str = "", score: float = 0.6, track: int = 1) -> TrackedFace:
    face = Face((0, 0, 50, 60), 0.9, np.zeros((5, 2), dtype=np.float32))
    return TrackedFace(track, face, Quality(0.0 if reason else score, reason))


def play(decider: Decider, views: list[Vector]) -> list[Decision]:
    made = []
    for index, probe in enumerate(views):
        made += decider.observe(frame(index), [look()], probe[np.newaxis])
    return made


def test_nothing_is_said_before_enough_views_and_then_the_right_name() -> None:
    made = play(Decider(PEOPLE, RULE), [view(ANN, 0.6) for _ in range(5)])
    assert [d.frame for d in made] == [2, 3, 4]
    assert {d.person for d in made} == {"ann"}
    assert all(d.outcome is Outcome.MATCH and d.reason == "recognised" for d in made)


def test_poor_single_views_add_up_when_they_are_of_one_person() -> None:
    """Each view alone is below the threshold; their mean is not."""
    views = [unit(view(ANN, 0.37) + 0.35 * direction(77)) for _ in range(6)]
    assert max(float(v @ ANN) for v in views) < RULE.threshold
    assert play(Decider(PEOPLE, RULE), views)[-1].person == "ann"


def test_a_stranger_is_nobody_however_long_they_stand_there() -> None:
    made = play(Decider(PEOPLE, RULE), [view(EVE, 0.7) for _ in range(40)])
    assert {d.outcome for d in made} == {Outcome.UNKNOWN}
    assert {d.person for d in made} == {None}


def test_between_two_people_the_answer_is_nobody() -> None:
    twin = People(ann=ANN, twin=unit(ANN + 0.1 * BEN))
    made = play(Decider(twin, RULE), [view(ANN, 0.7) for _ in range(4)])
    assert {d.reason for d in made} == {"too_close_to_another"}


def test_a_match_is_taken_back_when_the_track_becomes_somebody_else() -> None:
    decider = Decider(PEOPLE, RULE)
    made = play(decider, [view(ANN, 0.7) for _ in range(4)] + [view(EVE, 0.7) for _ in range(12)])
    assert made[0].person == "ann"
    assert made[-1].person is None
    first_doubt = next(d for d in made if d.person is None)
    assert first_doubt.reason == "contradicted"


def test_views_of_one_person_never_support_the_name_of_another() -> None:
    decider = Decider(PEOPLE, RULE)
    made = play(decider, [view(ANN, 0.7) for _ in range(4)] + [view(BEN, 0.7) for _ in range(12)])
    names = [d.person for d in made]
    assert names[0] == "ann"
    assert names[-1] == "ben"
    assert None in names[names.index("ann") : names.index("ben")]


def test_a_photograph_is_decided_on_alone() -> None:
    made = Decider(PEOPLE, RULE).observe(frame(0, still=True), [look()], view(BEN, 0.6)[None])
    assert [(d.person, d.final) for d in made] == [("ben", True)]


def test_an_empty_gallery_knows_nobody() -> None:
    made = play(Decider(People(), RULE), [view(ANN, 0.9) for _ in range(3)])
    assert (made[-1].outcome, made[-1].reason) == (Outcome.UNKNOWN, "gallery_is_empty")


def test_a_track_that_never_showed_enough_ends_rejected_with_the_commonest_reason() -> None:
    decider = Decider(PEOPLE, RULE)
    for index, reason in enumerate(["too_small", "blurred", "too_small"]):
        decider.saw(frame(index), look(reason))
    last = decider.end(1)
    assert last is not None
    assert (last.outcome, last.reason, last.person) == (Outcome.REJECTED, "too_small", None)


def test_a_track_with_too_few_views_ends_rejected_and_a_decided_one_silently() -> None:
    decider = Decider(PEOPLE, RULE)
    decider.saw(frame(0), look())
    play(decider, [view(ANN, 0.6)])
    last = decider.end(1)
    assert last is not None
    assert last.reason == "too_few_views"
    play(decider, [view(ANN, 0.6) for _ in range(3)])
    assert decider.end(1) is None
    assert decider.end(99) is None


def test_a_new_gallery_starts_the_evidence_anew() -> None:
    decider = Decider(PEOPLE, RULE)
    play(decider, [view(ANN, 0.6) for _ in range(3)])
    decider.replace(People(ben=BEN), RULE)
    made = play(decider, [view(ANN, 0.6) for _ in range(3)])
    assert [d.person for d in made] == [None]


def test_tracks_do_not_share_evidence() -> None:
    decider = Decider(PEOPLE, RULE)
    made: list[Decision] = []
    for index in range(3):
        pair = [look(track=1), look(track=2)]
        made += decider.observe(frame(index), pair, np.stack([view(ANN, 0.7), view(BEN, 0.7)]))
    assert {d.track: d.person for d in made} == {1: "ann", 2: "ben"}


def test_the_gallery_is_searched_once_a_frame_for_views_and_evidence_alike() -> None:
    class Counting(People):
        rows: list[int]

        def search(self, probes: Vector) -> list[Candidate]:
            self.rows.append(len(probes))
            return super().search(probes)

    counting = Counting(ann=ANN, ben=BEN)
    counting.rows = []
    decider = Decider(counting, RULE)
    for index in range(4):
        both = [look(track=1), look(track=2)]
        made = decider.observe(frame(index), both, np.stack([view(ANN, 0.7), view(BEN, 0.7)]))
    assert [d.person for d in made] == ["ann", "ben"]
    # Two views a frame, and from the third frame on the evidence of both tracks with them.
    assert counting.rows == [2, 2, 4, 4]
    assert decider.observe(frame(5), [], np.empty((0, 512), np.float32)) == []
    assert len(counting.rows) == 4


def test_a_track_resembles_somebody_by_one_view_or_by_all_together() -> None:
    decider = Decider(PEOPLE, RULE)
    play(decider, [view(EVE, 0.7)] * 2)
    assert not decider.resembles_somebody(1)
    play(decider, [view(ANN, 0.7)])
    assert decider.resembles_somebody(1)
    poor = Decider(PEOPLE, RULE)
    views = [unit(view(ANN, 0.37) + 0.35 * direction(77)) for _ in range(6)]
    made = play(poor, views)
    assert made[-1].person == "ann"
    assert poor.resembles_somebody(1)
