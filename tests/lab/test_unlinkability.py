"""D_sys: its formula, and what it says of templates under two keys."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.base.values import Vector
from agent.keys.ring import KeyRing
from agent.lab.unlinkability import unlinkability
from agent.recognition.protection import Protection
from tests.recognition.people import OTHER_RING, RING
from tests.recognition.people import templates as directions

FACES = Path(os.environ.get("KAOPASS_FACES", Path(__file__).parents[3] / "shared/faces"))
PEOPLE = FACES / "lfw-dev"
BUS = Protection(RING.template_key("bus"), "bus", 1)


def linked(one: Vector, other: Vector, shifts: int) -> tuple[Vector, Vector]:
    """Scores of each row with its own, and with the next ones', row by row."""
    mated = np.sum(one * other, axis=1)
    strangers = [np.sum(one * np.roll(other, 1 + n, axis=0), axis=1) for n in range(shifts)]
    return mated, np.concatenate(strangers)


def test_the_same_scores_cannot_be_told_apart() -> None:
    scores = np.random.default_rng(1).normal(0, 1, 20_000)
    assert unlinkability(scores, scores) == 0.0


def test_separate_scores_are_fully_linkable() -> None:
    rng = np.random.default_rng(1)
    assert unlinkability(rng.normal(9, 0.1, 2000), rng.normal(0, 0.1, 2000)) == 1.0


def test_it_is_the_published_integral() -> None:
    """Two normal densities one deviation apart, integrated numerically beside it."""
    rng = np.random.default_rng(1)
    s = np.linspace(-8, 9, 200_001)
    mated, others = np.exp(-((s - 1) ** 2) / 2), np.exp(-(s**2) / 2)
    ratio = mated / others
    local = np.where(ratio > 1, 2 * ratio / (1 + ratio) - 1, 0)
    expected = float(np.sum(mated * local) / np.sum(mated))
    found = unlinkability(rng.normal(1, 1, 200_000), rng.normal(0, 1, 200_000))
    assert found == pytest.approx(expected, abs=0.005)


def test_what_makes_mated_pairs_rarer_makes_linking_harder() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(1, 1, 20_000), rng.normal(0, 1, 20_000)
    assert unlinkability(*scores, omega=0.1) < unlinkability(*scores) / 2


def test_too_few_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1000 each"):
        unlinkability(np.zeros(999), np.zeros(5000))


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        Protection(RING.template_key("hall"), "hall", 1),
        Protection(RING.template_key("bus", 2), "bus", 2),
        Protection(OTHER_RING.template_key("bus"), "bus", 1),
    ],
    ids=["bus and hall", "old and new key", "two devices"],
)
def test_templates_under_two_keys_are_unlinkable(other: Protection) -> None:
    """Synthetic embeddings with a common mean, as a network's have."""
    rows = directions(1, 10_000) + directions(2, 1)[0]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert unlinkability(*linked(BUS.apply(rows), other.apply(rows), 3)) <= 0.05
    # The measure can fail: under one key the same templates are linked.
    assert unlinkability(*linked(BUS.apply(rows), BUS.apply(rows), 3)) > 0.95


@pytest.mark.skipif(not PEOPLE.is_dir(), reason="no pictures of people to measure with here")
def test_templates_of_real_faces_are_unlinkable_between_bus_and_hall() -> None:
    """Sixty photographs, embedded by the default pack; everything stays in memory."""
    from tests.line.door import networks

    rows = []
    for picture in sorted(PEOPLE.glob("*/*"))[:1200:20]:
        found = cv2.imread(str(picture))
        assert found is not None
        image = found.astype(np.uint8)
        faces = networks().detector.detect(image)[:1]
        rows += list(networks().embedder.embed(image, faces)) if faces else []
    plain = np.stack(rows)
    # So few faces give too few pairs for a histogram; several devices' keys give more.
    scores = []
    for device in range(20):
        ring = KeyRing(bytes([device]) * 32)
        bus = Protection(ring.template_key("bus"), "bus", 1).apply(plain)
        scores.append(linked(bus, Protection(ring.template_key("hall"), "hall", 1).apply(plain), 5))
    mated = np.concatenate([pair[0] for pair in scores])
    strangers = np.concatenate([pair[1] for pair in scores])
    assert len(mated) >= 1000
    assert unlinkability(mated, strangers) <= 0.05
    np.testing.assert_allclose(bus @ bus.T, plain @ plain.T, atol=1e-6)
