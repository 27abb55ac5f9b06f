"""Pictures become views through the door's own parts: which face, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from agent.accuracy.reading import Eyes, main_face, read_views
from agent.base.errors import CameraError, ModelError
from agent.base.values import Face, Image, Quality, Vector

POINTS = np.zeros((5, 2), np.float32)
IMAGE: Image = np.zeros((250, 250, 3), np.uint8)


def face(x: float, y: float, size: float) -> Face:
    return Face((x - size / 2, y - size / 2, x + size / 2, y + size / 2), 0.9, POINTS)


def test_the_central_face_is_meant_even_beside_a_somewhat_larger_one() -> None:
    central, corner = face(125, 120, 90), face(30, 40, 100)
    assert main_face(IMAGE, [corner, central]) is central


def test_a_far_larger_face_is_meant_wherever_it_is() -> None:
    small, large = face(125, 125, 20), face(90, 110, 120)
    assert main_face(IMAGE, [small, large]) is large
    assert main_face(IMAGE, []) is None


class Detector:
    """Finds a face as wide as the picture's first pixel says; none at 0."""

    def detect(self, image: Image) -> list[Face]:
        width = int(image[0, 0, 0])
        return [face(125, 125, width)] if width else []


class Embedder:
    pack = "made-up"

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        return np.stack([np.eye(8, dtype=np.float32)[int(f.width) % 8] for f in faces])

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        longer: Vector = self.embed(image, faces) * np.float32(1.1)
        return longer


def judge(image: Image, seen: Face) -> Quality:
    return Quality(0.7) if seen.width >= 28 else Quality(0.0, "too_small")


def read(path: Path) -> Image:
    """The file's name is the width of the face in it."""
    if path.stem == "broken":
        raise CameraError("broken")
    image: Image = IMAGE.copy()
    image[0, 0] = int(path.stem)
    return image


def test_each_picture_is_embedded_as_what_it_is_wanted_for() -> None:
    names = ("100", "90", "20", "0", "broken")
    probes = [Path(f"{name}.jpg") for name in names]
    counted = []
    found = read_views(
        probes,
        [Path("90.jpg"), Path("80.jpg")],
        read,
        lambda: Eyes(Detector(), Embedder(), judge),
        workers=2,
        done=lambda: counted.append(1),
    )
    assert len(counted) == len(found) == 6
    assert {path.stem: view.quality.reason for path, view in found.items()} == {
        "100": "", "90": "", "80": "", "20": "too_small", "0": "no_face", "broken": "unreadable",
    }  # fmt: skip
    embedded = {
        path.stem: (view.probe is not None, view.reference is not None)
        for path, view in found.items()
    }
    assert embedded["100"] == (True, False)
    assert embedded["90"] == (True, True)
    assert embedded["80"] == (False, True)
    assert embedded["20"] == embedded["0"] == embedded["broken"] == (False, False)


def test_a_lost_model_ends_the_reading() -> None:
    def no_eyes() -> Eyes:
        raise ModelError("gone")

    with pytest.raises(ModelError, match="gone"):
        read_views([Path("90.jpg")] * 1, [], read, no_eyes, workers=2, done=lambda: None)
