"""Examining pictures and clips for liveness, without recognising anybody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.base.values import Face, Frame, Image, Vector
from agent.settings.model import load
from agent.vision.examine import Examiner, View, sequence_name, sequence_score
from agent.wiring.parts import quality_gate

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (200, 400, 3)).astype(np.uint8)
# Eyes level, nose between them: looks straight ahead.
LANDMARKS = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float32)


def face(left: float, width: float = 100.0) -> Face:
    landmarks = LANDMARKS + np.array([left, 10.0], np.float32)
    return Face((left, 10.0, left + width, 120.0), 0.9, landmarks)


class Faces:
    """Finds the same faces in every frame."""

    def __init__(self, *faces: Face) -> None:
        self._faces = list(faces)

    def detect(self, image: Image) -> list[Face]:
        del image
        return self._faces


class LeftIsAlive:
    pack = "fake"

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        del image
        return np.array([2.0 if face.box[0] < 150 else -2.0 for face in faces], np.float32)


def examiner(*faces: Face) -> Examiner:
    return Examiner(Faces(*faces), quality_gate(load()), LeftIsAlive())


def clip(count: int, *, still: bool = False) -> list[Frame]:
    return [Frame(PICTURE, n, n * 67, n * 67, still) for n in range(count)]


def check(subject: Examiner, frames: list[Frame]) -> list[tuple[bool, str, int]]:
    found = subject.check(frames, threshold=0.5, min_frames=3, lost_ms=700)
    return [(item.verdict.live, item.verdict.reason, item.views) for item in found]


def test_every_face_of_a_picture_is_judged_by_itself() -> None:
    both = check(examiner(face(20), face(250)), clip(1, still=True))
    assert both == [(True, "live", 1), (False, "not_live", 1)]


def test_a_face_too_small_for_the_door_is_still_judged_in_a_picture_but_not_in_a_clip() -> None:
    tiny = face(20, width=14)
    assert check(examiner(tiny), clip(1, still=True)) == [(True, "live", 1)]
    assert check(examiner(tiny), clip(8)) == [(False, "liveness_unsure", 0)]


def test_a_clip_is_judged_by_its_tracks() -> None:
    ((live, reason, views),) = check(examiner(face(20)), clip(8))
    assert (live, reason, views) == (True, "live", 8)


def test_a_clip_too_short_is_unsure() -> None:
    assert check(examiner(face(20)), clip(2)) == [(False, "liveness_unsure", 2)]


def test_a_picture_without_a_face_has_nothing_to_judge() -> None:
    assert check(examiner(), clip(1, still=True)) == []
    assert examiner().views(clip(3)) == []


def test_the_largest_face_is_the_one_meant() -> None:
    views = examiner(face(250, width=40), face(20, width=90)).views(clip(2))
    assert [view.log_odds for view in views] == [2.0, 2.0]


def test_views_of_a_sequence_are_weighed() -> None:
    assert sequence_score([View(1.0, 1.0), View(-1.0, 1.0)]) == pytest.approx(0.5)
    assert sequence_score([View(1.0, 1.0), View(-1.0, 0.1)]) > 0.6


def test_pictures_that_differ_in_the_last_number_are_one_sequence() -> None:
    names = ["a/0001_00_02_17.jpg", "a/0001_00_02_3.jpg", "a/0001_00_03_3.jpg", "b/x.jpg"]
    found = [sequence_name(Path(name)) for name in names]
    assert found == ["a/0001_00_02", "a/0001_00_02", "a/0001_00_03", "b/x"]
    assert sequence_name(Path("a/17.jpg")) == "a/17"
