"""The synthetic attacks: repeatable, in memory, and each shows a face that moves."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from agent.sim.attacks import KINDS, MIN_FACE_PIXELS, Subject, attack_clip, subjects
from tests.hw.models.networks import networks


@cache
def people() -> list[Subject]:
    return subjects(networks().detector)


def test_the_photographs_hold_many_people_large_enough_to_show() -> None:
    assert len(people()) >= 15
    assert all(person.face.width >= MIN_FACE_PIXELS for person in people())


@pytest.mark.parametrize("kind", KINDS)
def test_a_face_is_found_in_every_frame_and_no_two_frames_are_alike(kind: str) -> None:
    frames = list(attack_clip(kind, people()[0], other=people()[1], frames=3, seed=1))
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert all(not frame.still for frame in frames)
    for frame in frames:
        assert frame.image.shape == (480, 640, 3)
        assert networks().detector.detect(frame.image)
    assert not np.array_equal(frames[0].image, frames[1].image)


def test_the_same_seed_draws_the_same_attack() -> None:
    first, second = (list(attack_clip("screen", people()[0], frames=2, seed=7)) for _ in range(2))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_kinds_differ() -> None:
    pictures = [next(attack_clip(k, people()[0], other=people()[1], seed=3)).image for k in KINDS]
    assert len({picture.tobytes() for picture in pictures}) == len(KINDS)


def test_eyes_behind_a_photograph_need_somebody() -> None:
    with pytest.raises(ValueError, match="another face"):
        next(attack_clip("print_eyes_cut", people()[0]))


def test_an_unknown_attack_brings_the_list() -> None:
    with pytest.raises(ValueError, match="there are print_held"):
        next(attack_clip("mask", people()[0]))
