"""The promise is kept for a stranger who stays, not only for the first decision on them."""

from __future__ import annotations

import numpy as np
import pytest

from agent.base.values import Face, Frame, Outcome, Quality, TrackedFace, Vector
from agent.recognition.decision import Decider, Rule
from agent.recognition.fusion import fuse
from agent.recognition.matcher import Matcher
from agent.recognition.rules import LOOKS
from agent.recognition.templates import TemplateSet
from tests.vectors import unit

pytestmark = pytest.mark.slow

VALUES, PEOPLE, STRANGERS, VIEWS, FIRST = 64, 300, 1_500, 13, 3
PROMISE = 0.05
LIKE = 0.85  # cosine of two views of one person
RNG = np.random.default_rng(20261125)
FACE = Face((0, 0, 50, 60), 0.9, np.zeros((5, 2), np.float32))
IMAGE = np.zeros((4, 4, 3), np.uint8)


def tracks(count: int, views: int) -> Vector:
    """Views of *count* strangers, float32 (count, views, VALUES)."""
    own = unit(RNG.standard_normal((count, 1, VALUES)))
    noise = unit(RNG.standard_normal((count, views, VALUES)))
    return unit(np.sqrt(LIKE) * own + np.sqrt(1 - LIKE) * noise)


def first_scores(gallery: TemplateSet) -> Vector:
    """The best score of each of many strangers at the first decision on them."""
    fused = np.stack([fuse(each, [1.0] * FIRST) for each in tracks(6_000, FIRST)])
    return np.asarray((fused @ gallery.matrix.T).max(axis=1))


def named(gallery: TemplateSet, threshold: float) -> float:
    """The share of strangers who are taken for somebody before they have gone."""
    decider = Decider(Matcher(gallery), Rule(threshold, 0.0, FIRST, 12))
    hits = 0
    for track, views in enumerate(tracks(STRANGERS, VIEWS)):
        seen = [TrackedFace(track, FACE, Quality(0.6, ""))]
        decided = [
            decision
            for index, probe in enumerate(views)
            for decision in decider.observe(Frame(IMAGE, index, 0, 66 * index), seen, probe[None])
        ]
        hits += any(decision.outcome is Outcome.MATCH for decision in decided)
    return hits / STRANGERS


def test_with_its_looks_counted_a_stranger_who_stays_keeps_the_promise() -> None:
    rows = unit(RNG.standard_normal((PEOPLE, VALUES)))
    gallery = TemplateSet.build([(f"r{n}", rows[n : n + 1]) for n in range(PEOPLE)])
    scores = first_scores(gallery)
    once = named(gallery, float(np.quantile(scores, 1 - PROMISE)))
    counted = named(gallery, float(np.quantile(scores, 1 - PROMISE / LOOKS)))
    assert once > 1.4 * PROMISE, "looks would not matter"
    assert counted < 1.3 * PROMISE
