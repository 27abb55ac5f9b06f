"""Template protection: cosines stay, everything else changes with the key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.base.values import Face, Image, Vector
from agent.keys.ring import KeyRing
from agent.recognition.protection import ProtectedEmbedder, Protection, change, orthogonal
from tests.recognition.people import RING, templates

BUS = Protection(RING.template_key("bus"), "bus", 1)
HALL = Protection(RING.template_key("hall"), "hall", 1)


def exact(rows: Vector) -> NDArray[np.float64]:
    """All cosines of *rows*, in float64."""
    double = rows.astype(np.float64)
    cosines: NDArray[np.float64] = double @ double.T
    return cosines


@pytest.mark.parametrize("values", [512, 500, 128, 3])
def test_every_cosine_is_what_it_was(values: int) -> None:
    rows = templates(1, 200, values)
    assert np.abs(exact(BUS.apply(rows)) - exact(rows)).max() < 1e-6


def test_a_score_in_float32_as_the_matcher_reckons_it_is_the_same_to_a_millionth() -> None:
    gallery, probes = templates(1, 300), templates(2, 20)
    before = probes @ gallery.T
    after = BUS.apply(probes) @ BUS.apply(gallery).T
    assert np.abs(after - before).max() < 1e-6


def test_lengths_other_than_one_are_kept() -> None:
    """A template's length weighs its scores."""
    rows = templates(1, 4) * np.array([[0.9], [1.0], [1.1], [1.2]], np.float32)
    lengths = np.linalg.norm(BUS.apply(rows), axis=1)
    np.testing.assert_allclose(lengths, [0.9, 1.0, 1.1, 1.2], atol=1e-6)


def test_the_matrix_is_orthogonal() -> None:
    matrix = BUS.matrix(512)
    assert np.abs(matrix @ matrix.T - np.eye(512)).max() < 1e-12


def test_the_map_is_the_same_on_every_machine() -> None:
    """Pinned: another value here means that every template stored would be lost."""
    matrix = orthogonal(bytes(32), 512)
    np.testing.assert_allclose(
        [*matrix[0, :3], *matrix[-1, -3:]],
        [0.0430484951, -0.0450664319, -0.0363510184, -0.0378197237, 0.0030097069, -0.0319956702],
        atol=1e-7,
    )


def test_it_is_drawn_uniformly_from_all_rotations() -> None:
    """Traces of Haar matrices are normal(0, 1) (Diaconis and Mallows); without the sign
    correction they are not. Entries are normal(0, 1/d)."""
    traces = [np.trace(orthogonal(bytes([n]) * 32, 64)) for n in range(200)]
    assert abs(np.mean(traces)) < 0.25
    assert 0.75 < np.var(traces) < 1.3
    entries = orthogonal(bytes(32), 256).ravel() * 16
    assert abs(float(np.mean(entries**4)) - 3.0) < 0.15


@pytest.mark.parametrize(
    "other",
    [
        HALL,
        Protection(RING.template_key("bus", 2), "bus", 2),
        Protection(KeyRing(bytes(32)).template_key("bus"), "bus", 1),
    ],
    ids=["another domain", "another version", "another device"],
)
def test_one_face_is_a_stranger_to_itself_under_another_key(other: Protection) -> None:
    rows = templates(1, 500)
    mated = np.sum(BUS.apply(rows) * other.apply(rows), axis=1)
    # Cosines of unrelated directions in 512 dimensions: deviation 1 / sqrt(512) = 0.044.
    assert abs(float(mated.mean())) < 0.01
    assert np.abs(mated).max() < 0.2


@pytest.mark.slow
def test_a_change_of_key_equals_mapping_anew() -> None:
    rows = templates(1, 50)
    changed = BUS.apply(rows).astype(np.float64) @ change(BUS, HALL, 512)
    np.testing.assert_allclose(changed, HALL.apply(rows), atol=1e-6)


def test_a_row_that_is_not_finite_spoils_no_other() -> None:
    rows = templates(1, 3)
    whole = BUS.apply(rows)
    rows[1] = np.nan
    mapped = BUS.apply(rows)
    assert not np.isfinite(mapped[1]).any()
    np.testing.assert_allclose(mapped[[0, 2]], whole[[0, 2]], atol=1e-6)


def test_no_faces_are_no_rows() -> None:
    assert BUS.apply(np.zeros((0, 512), np.float32)).shape == (0, 512)


@pytest.mark.slow
def test_a_passing_protection_is_another_each_time_and_shows_no_key() -> None:
    rows = templates(1, 2)
    one, other = Protection.passing(), Protection.passing()
    assert np.abs(one.apply(rows) - other.apply(rows)).max() > 0.01
    assert repr(BUS) == "Protection('bus', version 1)"


class Network:
    """An embedder that always sees the same faces."""

    pack = "pack"

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        return templates(5)

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        longer: Vector = templates(5) * np.float32(1.1)
        return longer


def test_no_plain_embedding_leaves_a_protected_embedder() -> None:
    embedder = ProtectedEmbedder(Network(), BUS)
    image = np.zeros((1, 1, 3), np.uint8)
    assert embedder.pack == "pack"
    np.testing.assert_array_equal(embedder.embed(image, []), BUS.apply(templates(5)))
    references = embedder.embed_reference(image, [])
    np.testing.assert_allclose(references, BUS.apply(templates(5)) * 1.1, atol=1e-6)
    embedder.use(HALL)
    np.testing.assert_array_equal(embedder.embed(image, []), HALL.apply(templates(5)))
