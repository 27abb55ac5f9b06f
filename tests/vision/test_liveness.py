"""The liveness stage: several views of one face together, and no verdict is no."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from agent.base.errors import ModelError
from agent.base.ports import LivenessSensor
from agent.base.values import Face, Frame, Image, Quality, TrackedFace, Vector
from agent.sim.sensors.fake_infrared import FakeInfrared
from agent.vision.liveness import MAX_VIEWS, Liveness

NOTHING = np.zeros((8, 8, 3), np.uint8)
LANDMARKS = np.zeros((5, 2), np.float32)


class Scripted:
    """A liveness network that says what the box's left edge says."""

    pack = "scripted"

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        del image
        return np.array([face.box[0] for face in faces], np.float32)


def seen(log_odds: float, *, track: int = 1, quality: float = 1.0) -> TrackedFace:
    face = Face((log_odds, 0.0, log_odds + 100.0, 100.0), 0.9, LANDMARKS)
    return TrackedFace(track, face, Quality(quality))


def stage(*, threshold: float = 0.5, sensor: LivenessSensor | None = None) -> Liveness:
    return Liveness(Scripted(), threshold=threshold, min_frames=3, sensor=sensor)


def show(liveness: Liveness, *views: TrackedFace, first: int = 0) -> Liveness:
    for index, view in enumerate(views, start=first):
        liveness.observe(Frame(NOTHING, index, index * 67, index * 67), [view])
    return liveness


def test_a_face_alive_in_its_views_is_live() -> None:
    verdict = show(stage(), seen(2.0), seen(1.0), seen(3.0)).verdict(1)
    assert verdict.live
    assert verdict.reason == "live"
    assert verdict.score == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_one_lucky_view_does_not_bring_a_photograph_through() -> None:
    verdict = show(stage(), seen(3.0), seen(-2.0), seen(-2.5)).verdict(1)
    assert not verdict.live
    assert verdict.reason == "not_live"


def test_one_bad_view_does_not_refuse_a_person() -> None:
    assert show(stage(), seen(-1.0), seen(2.0), seen(2.5), seen(2.0)).verdict(1).live


def test_better_views_weigh_more() -> None:
    views = (seen(-1.0, quality=0.9), seen(1.5, quality=0.2), seen(1.5, quality=0.2))
    assert not show(stage(), *views).verdict(1).live


def test_too_few_views_are_no_verdict_but_a_photograph_is_judged_on_one() -> None:
    liveness = show(stage(), seen(3.0), seen(3.0))
    assert liveness.verdict(1).reason == "liveness_unsure"
    assert not liveness.verdict(1).live
    assert liveness.verdict(1, still=True).live


@pytest.mark.parametrize("still", [True, False])
def test_a_track_never_looked_at_is_not_live(still: bool) -> None:
    verdict = stage().verdict(7, still=still)
    assert (verdict.live, verdict.score, verdict.reason) == (False, 0.0, "liveness_unsure")


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -float("inf")])
def test_a_network_that_answers_nonsense_is_broken_and_not_in_doubt(nonsense: float) -> None:
    with pytest.raises(ModelError, match="liveness network's output is not numbers"):
        show(stage(), seen(2.0), seen(nonsense))


def test_views_from_before_the_present_face_do_not_count() -> None:
    """A living face first, then a photograph in the same track."""
    liveness = show(stage(), *[seen(4.0)] * 6)
    show(liveness, *[seen(-2.0)] * 3, first=6)
    assert liveness.verdict(1).live
    assert not liveness.verdict(1, since=6).live


def test_old_views_of_a_long_track_are_let_go() -> None:
    liveness = show(stage(), *[seen(5.0)] * 10)
    show(liveness, *[seen(-1.0)] * MAX_VIEWS, first=10)
    assert not liveness.verdict(1).live


def test_tracks_are_judged_apart_and_forgotten_when_they_end() -> None:
    liveness = stage()
    for index in range(3):
        frame = Frame(NOTHING, index, index, index)
        liveness.observe(frame, [seen(2.0, track=1), seen(-2.0, track=2)])
    assert liveness.verdict(1).live
    assert not liveness.verdict(2).live
    liveness.forget(1)
    assert liveness.verdict(1).reason == "liveness_unsure"


def test_the_threshold_is_the_callers() -> None:
    assert not show(stage(threshold=0.9), *[seen(2.0)] * 3).verdict(1).live
    assert show(stage(threshold=0.8), *[seen(2.0)] * 3).verdict(1).live


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([True, True, True], "live"),
        ([None, True, None], "live"),
        ([True, False, False], "not_live"),
        ([True, False, None], "not_live"),
        ([None, None, None], "liveness_unsure"),
    ],
)
def test_with_an_infrared_camera_both_must_agree(answers: list[bool | None], reason: str) -> None:
    liveness = show(stage(sensor=FakeInfrared(answers)), *[seen(2.0)] * 3)
    verdict = liveness.verdict(1)
    assert (verdict.live, verdict.reason) == (reason == "live", reason)


def test_an_infrared_camera_alone_makes_nobody_live() -> None:
    liveness = show(stage(sensor=FakeInfrared([True] * 3)), *[seen(-2.0)] * 3)
    assert liveness.verdict(1).reason == "not_live"
