"""The lean way around the networks gives what insightface's own way gives, at less cost."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.base.errors import ModelError
from agent.base.values import Vector
from agent.hw.models.insightface import ArcFaceEmbedder, ScrfdDetector
from agent.hw.models.networks.facemodels import (
    LeanArcFace,
    LeanScrfd,
    aligned,
    similarity_to_template,
)
from agent.hw.models.networks.onnx import open_session
from agent.packs.store import locate
from agent.sim.photographs import read_picture
from tests.waiting import LATE_SECONDS

PATHS = locate("buffalo_s", Path("none"), "research").paths


@cache
def session(network: str) -> Any:
    return open_session(PATHS[network], 1, "cpu")


def landmarks(rng: np.random.Generator) -> Vector:
    """Five points of a face somewhere, turned, of any size, a little out of shape."""
    eyes = np.array([[-15, -18], [15, -18], [0, 0], [-12, 18], [12, 18]], float)
    angle, scale = rng.uniform(-3, 3), rng.uniform(0.3, 8)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = eyes @ turn.T + rng.uniform(50, 400, 2) + rng.normal(0, scale, (5, 2))
    found: Vector = moved.astype(np.float32)
    return found


def test_alignment_is_scikit_images_similarity() -> None:
    from insightface.utils.face_align import arcface_dst
    from skimage.transform import SimilarityTransform

    transform: Any = SimilarityTransform  # some of its versions have no types
    rng = np.random.default_rng(7)
    for _ in range(50):
        points = landmarks(rng)
        reference = transform()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            reference.estimate(points, arcface_dst)
        assert np.abs(similarity_to_template(points, 112) - reference.params[:2]).max() < 1e-4


def test_faces_embeddings_and_boxes_are_those_of_insightface() -> None:
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX
    from insightface.model_zoo.scrfd import SCRFD
    from insightface.utils import face_align

    plain = SCRFD(str(PATHS["detector"]), session=session("detector"), static_shape_sessions=False)
    lean = LeanScrfd(session("detector"), min_score=0.5)
    plain_embedder = ArcFaceONNX(str(PATHS["embedder"]), session=session("embedder"))
    lean_embedder = LeanArcFace(session("embedder"))
    assert (plain_embedder.input_mean, plain_embedder.input_std) == (127.5, 127.5)
    for name in ("t1.jpg", "players.jpg"):
        image = read_picture(name)
        boxes, points = lean.detect(image, input_size=(640, 448))
        want_boxes, want_points = plain.detect(image, input_size=(640, 448))
        assert boxes == pytest.approx(want_boxes, abs=1e-2)
        assert points == pytest.approx(want_points, abs=1e-2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            crops = [face_align.norm_crop(image, p, image_size=112) for p in points[:4]]
        ours = lean_embedder.get_feat([aligned(image, p, 112) for p in points[:4]])
        theirs = plain_embedder.get_feat(crops)
        ours /= np.linalg.norm(ours, axis=1, keepdims=True)
        theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
        assert (ours * theirs).sum(axis=1).min() > 0.9999


class Broken:
    """A session whose outputs are not numbers, as a failing accelerator gives."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
        return [np.full_like(out, np.nan) for out in self._session.run(names, feed)]


def test_outputs_that_are_not_numbers_are_an_error_and_not_nobody() -> None:
    image = read_picture("t1.jpg")
    whole = ScrfdDetector(
        PATHS["detector"], input_pixels=320, min_score=0.5, threads=1, provider="cpu"
    )
    broken = ScrfdDetector(
        PATHS["detector"],
        input_pixels=320,
        min_score=0.5,
        threads=1,
        provider="cpu",
        opener=lambda *_: Broken(session("detector")),
    )
    with pytest.raises(ModelError, match="not numbers"):
        broken.detect(image)
    embedder = ArcFaceEmbedder(
        PATHS["embedder"],
        pack="p",
        threads=1,
        provider="cpu",
        opener=lambda *_: Broken(session("embedder")),
    )
    with pytest.raises(ModelError, match="not numbers"):
        embedder.embed(image, whole.detect(image))


def test_a_model_of_another_kind_is_named() -> None:
    with pytest.raises(ModelError, match="not an SCRFD"):
        ScrfdDetector(PATHS["embedder"], input_pixels=320, min_score=0.5, threads=1, provider="cpu")
    with pytest.raises(ModelError, match="not an ArcFace"):
        ArcFaceEmbedder(PATHS["detector"], pack="p", threads=1, provider="cpu")


def test_points_that_coincide_give_a_black_crop_and_no_crash() -> None:
    crop = aligned(np.full((50, 50, 3), 200, np.uint8), np.full((5, 2), 20, np.float32), 112)
    assert crop.shape == (112, 112, 3)
    assert not crop.any()


@pytest.mark.slow
def test_only_what_is_needed_of_insightface_is_read_and_the_rest_still_can_be() -> None:
    code = (
        "import sys, agent.hw.models.insightface\n"
        "assert 'scipy' not in sys.modules and 'requests' not in sys.modules\n"
        "import insightface\n"
        "assert insightface.app.FaceAnalysis and insightface.model_zoo.get_model\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LATE_SECONDS)
