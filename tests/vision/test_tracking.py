"""One person in front of the camera keeps one number."""

from __future__ import annotations

import numpy as np
import pytest

from agent.base.values import Face
from agent.vision.tracking import Tracker


def face_at(x: float, y: float = 100.0, width: float = 50.0) -> Face:
    return Face((x, y, x + width, y + 1.2 * width), 0.9, np.zeros((5, 2), dtype=np.float32))


def test_a_moving_face_keeps_its_number() -> None:
    tracker = Tracker(lost_ms=700)
    numbers = [tracker.update([face_at(10 + 12 * i)], 66 * i)[0][0] for i in range(20)]
    assert set(numbers) == {1}


def test_two_people_who_pass_each_other_keep_their_numbers() -> None:
    tracker = Tracker(lost_ms=700)
    first: list[list[int]] = []
    for i in range(31):
        # One comes from the left and nearer, one from the right and farther away.
        left, right = face_at(20 + 14 * i, 100, 60), face_at(440 - 14 * i, 108, 52)
        first.append(tracker.update([left, right], 66 * i)[0])
    assert first[0] == first[-1] == [1, 2]


def test_a_missed_detection_does_not_end_a_track() -> None:
    tracker = Tracker(lost_ms=700)
    tracker.update([face_at(100)], 0)
    tracker.update([face_at(104)], 66)
    assert tracker.update([], 132) == ([], ())
    assert tracker.update([face_at(113)], 264)[0] == [1]


def test_a_track_unseen_for_too_long_ends_once_and_its_number_is_not_used_again() -> None:
    tracker = Tracker(lost_ms=700)
    tracker.update([face_at(100)], 0)
    assert tracker.update([], 700)[1] == ()
    assert tracker.update([], 701)[1] == (1,)
    assert tracker.update([face_at(100)], 800) == ([2], ())


def test_a_face_that_appears_elsewhere_is_another_person() -> None:
    tracker = Tracker(lost_ms=700)
    tracker.update([face_at(0)], 0)
    assert tracker.update([face_at(400)], 66)[0] == [2]


def test_finish_ends_every_live_track() -> None:
    tracker = Tracker(lost_ms=700)
    tracker.update([face_at(0), face_at(300)], 0)
    assert tracker.finish() == (1, 2)
    assert tracker.finish() == ()


@pytest.mark.parametrize("apart", [0.3, 0.5, 0.7, 0.9])
def test_who_stands_still_keeps_the_track_when_one_neighbour_leaves_and_another_comes(
    apart: float,
) -> None:
    """B and A stand side by side; B goes, C comes to A's other side. A has not moved."""
    tracker = Tracker(lost_ms=700)
    b, a, c = (face_at(200 + place * apart * 50) for place in range(3))
    assert tracker.update([b, a], 0)[0] == [1, 2]
    assert tracker.update([a, c], 66)[0][0] == 2
    # Where C stands so near that it might be B who moved, the numbers do not say.
    if apart > 0.45:
        assert tracker.update([a, c], 132)[0] == [2, 3]


def test_no_pair_that_may_be_one_person_is_dearer_than_none() -> None:
    """Tall boxes, one below the other, that still overlap: the dearest pairs there are."""
    for down in range(0, 180, 5):
        tracker = Tracker(lost_ms=700)
        tracker.update([Face((100, 0, 140, 200), 0.9, np.zeros((5, 2), np.float32))], 0)
        lower = Face((100, down, 140, down + 200), 0.9, np.zeros((5, 2), np.float32))
        assert tracker.update([lower], 66)[0] == [1]
