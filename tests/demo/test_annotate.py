"""What is drawn on the picture: a mark of another shape for every outcome, and a mosaic."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from agent.base.values import Image
from agent.demo.annotate import Kind, Mark, annotate, hide

BOX = (60.0, 50.0, 110.0, 115.0)
KINDS: tuple[Kind, ...] = ("match", "unknown", "rejected", "waiting")


def noisy() -> Image:
    return np.random.default_rng(3).integers(0, 256, (160, 200, 3)).astype(np.uint8)


def test_the_picture_itself_is_left_alone() -> None:
    image = noisy()
    before = image.copy()
    annotate(image, [Mark(BOX, "match 0.62", "match")])
    hide(image, [BOX])
    assert np.array_equal(image, before)


def test_outcomes_differ_in_shape_and_not_only_in_colour() -> None:
    image = np.zeros((160, 200, 3), np.uint8)
    drawn = {kind: annotate(image, [Mark(BOX, "x", kind)]).max(axis=2) > 0 for kind in KINDS}
    for one, other in combinations([drawn["match"], drawn["unknown"], drawn["rejected"]], 2):
        assert (one != other).sum() > 200


def test_the_word_is_written_even_on_a_face_at_the_edge() -> None:
    image = np.zeros((160, 200, 3), np.uint8)
    drawn = annotate(image, [Mark((150.0, -20.0, 230.0, 60.0), "unknown", "unknown")])
    assert (drawn == 255).all(axis=2).sum() > 40


def test_a_hidden_face_has_a_few_flat_tiles_and_nothing_else() -> None:
    hidden = hide(noisy(), [BOX])
    face = hidden[50:115, 60:110].reshape(-1, 3)
    assert len(np.unique(face, axis=0)) <= 36
    assert np.array_equal(hidden[:, 180:], noisy()[:, 180:])


def test_hiding_a_face_outside_the_picture_is_no_error() -> None:
    image = noisy()
    assert np.array_equal(hide(image, [(400.0, 400.0, 450.0, 450.0)]), image)
