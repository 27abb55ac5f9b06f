"""The second pack recognises people: its boxes, points and embeddings are what they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agent.base.errors import ModelError
from agent.base.values import Box, Face, Image, Vector
from agent.hw.models.faceplugin import FacepluginDetector, distinct, windows
from agent.hw.models.networks.onnx import open_session
from agent.sim.photographs import read_picture
from agent.wiring.selftest import self_tested
from tests.hw.models.networks import networks as default_pack
from tests.liveness_pack import PACK, models_directory
from tests.second_pack import networks

FOLDER = models_directory() / PACK


def detector(input_pixels: int = 640, **given: Any) -> FacepluginDetector:
    paths = {"detector": FOLDER / "fr_detect.onnx", "landmarks": FOLDER / "fr_landmark.onnx"}
    options = {"min_score": 0.5, "threads": 1, "provider": "cpu"}
    return FacepluginDetector(**{**paths, "input_pixels": input_pixels, **options, **given})


def nearest(face: Face, found: list[Face]) -> Face:
    return min(found, key=lambda other: float(np.abs(np.subtract(other.box, face.box)).sum()))


@pytest.mark.parametrize("input_pixels", [320, 640])
def test_both_packs_see_the_same_people_and_the_same_five_points(input_pixels: int) -> None:
    image = read_picture("t1.jpg")
    known = default_pack().detector.detect(image)
    found = detector(input_pixels).detect(image)
    assert len(found) == len(known) == 6
    assert [face.score for face in found] == sorted((f.score for f in found), reverse=True)
    for face in known:
        twin = nearest(face, found)
        eyes = float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
        assert np.abs(twin.landmarks - face.landmarks).max() < 0.35 * eyes
        assert 0.8 < twin.width / face.width < 1.25


def test_points_follow_a_face_that_is_moved_scaled_and_shown_large() -> None:
    image = read_picture("yaoming.jpg")
    (face,) = detector().detect(image)
    for scale in (0.4, 4.0):
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        canvas = np.full((size[1] + 40, size[0] + 80, 3), 90, np.uint8)
        canvas[30 : 30 + size[1], 50 : 50 + size[0]] = cv2.resize(image, size)
        (again,) = detector().detect(canvas)
        back = (again.landmarks - [50, 30]) / scale
        eyes = float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
        assert np.abs(back - face.landmarks).max() < 0.15 * eyes


def test_windows_find_faces_too_small_for_the_network_and_count_nobody_twice() -> None:
    image = read_picture("yaoming.jpg")
    side = 34  # the face in it is then 15 pixels wide
    small = cv2.resize(image, (side, round(side * image.shape[0] / image.shape[1])))
    frame = np.full((480, 640, 3), 110, np.uint8)
    places = [(40, 30), (300, 220), (560, 400), (310, 60)]  # two of them where windows meet
    for left, top in places:
        frame[top : top + small.shape[0], left : left + side] = small
    assert len(detector(640).detect(frame)) == len(places)
    assert len(detector(320).detect(frame)) < len(places)


def test_windows_cover_the_picture_and_overlap() -> None:
    image = np.zeros((479, 641, 3), np.uint8)
    whole, *parts = windows(image, 640)
    assert whole == (0, 0, 641, 479)
    seen = np.zeros(image.shape[:2], int)
    for left, top, right, bottom in parts:
        seen[top:bottom, left:right] += 1
    assert len(parts) == 4
    assert seen.min() == 1
    assert seen.max() == 4
    assert list(windows(image, 320)) == [whole]
    assert len(list(windows(image[:250, :250], 640))) == 1, "the whole shows all there is"
    tall = np.zeros((3000, 500, 3), np.uint8)
    assert [box[2] - box[0] for box in windows(tall, 640)] == [500] * 4


def test_a_box_within_another_is_no_second_face_but_a_neighbour_is() -> None:
    boxes: list[Box] = [(0, 0, 100, 100), (5, 5, 104, 103), (40, 10, 95, 60), (80, 0, 180, 100)]
    scores = np.array([0.8, 0.9, 0.99, 0.7], np.float32)
    kept = distinct(scores, np.array(boxes, np.float32))
    assert kept == [2, 3], "the best of those that cover each other, and the one beside them"
    assert distinct(scores[:0], np.zeros((0, 4), np.float32)) == []


def test_people_are_told_apart_and_known_again_in_another_picture_of_them() -> None:
    embedder = networks().embedder
    assert embedder.pack == PACK
    image = read_picture("t1.jpg")
    faces = networks().detector.detect(image)
    rows = embedder.embed(image, faces)
    assert rows.shape == (6, 512)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    # The same people smaller, darker and mirrored: other pixels, other landmarks.
    small = cv2.resize(image, None, fx=0.5, fy=0.5)[:, ::-1]
    worse = cv2.convertScaleAbs(small, alpha=0.7).astype(np.uint8)
    again = networks().detector.detect(worse)
    scores = rows @ embedder.embed(worse, again).T
    assert scores.shape == (6, 6)
    best = np.sort(scores, axis=1)
    assert best[:, -1].min() > 0.6
    assert best[:, -2].max() < 0.5
    references = embedder.embed_reference(image, faces)
    lengths = np.linalg.norm(references, axis=1)
    assert (lengths >= 0.85 - 1e-5).all()
    assert (lengths <= 1.20 + 1e-5).all()
    assert (rows * references).sum(axis=1).min() > 0.75


def test_the_self_test_passes_and_notices_swapped_colours() -> None:
    assert self_tested(networks()).fault == ""
    assert self_tested(networks()).warning == ""

    class Blue:
        pack = PACK

        def embed(self, image: Image, faces: list[Face]) -> Vector:
            return networks().embedder.embed(np.ascontiguousarray(image[:, :, ::-1]), faces)

    blue = replace(networks(), embedder=Blue())  # type: ignore[arg-type]
    assert "red and blue are swapped" in self_tested(blue).fault


class Broken:
    """A session whose outputs are not numbers, as a failing accelerator gives."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
        return [np.full_like(out, np.nan) for out in self._session.run(names, feed)]


@pytest.mark.parametrize("broken", ["fr_detect.onnx", "fr_landmark.onnx"])
def test_outputs_that_are_not_numbers_are_an_error_and_not_nobody(broken: str) -> None:
    def opener(path: Path, threads: int, provider: str) -> Any:
        session = open_session(path, threads, provider)
        return Broken(session) if path.name == broken else session

    with pytest.raises(ModelError, match=f"{broken}: its output is not numbers"):
        detector(opener=opener).detect(read_picture("yaoming.jpg"))


def test_a_file_of_another_kind_is_named_with_what_it_takes_and_gives() -> None:
    with pytest.raises(ModelError, match=r"fr_feature\.onnx is no network of Faceplugin's"):
        detector(detector=FOLDER / "fr_feature.onnx")
    with pytest.raises(ModelError, match=r"fr_detect\.onnx is no network of Faceplugin's"):
        detector(landmarks=FOLDER / "fr_detect.onnx")
