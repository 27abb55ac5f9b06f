"""The boot self-test: a golden picture through detector and embedder, compared with known values.

Without it a model that was exchanged, a broken accelerator or swapped colours look like "nobody
there" (requirement B8). Of the golden picture only landmarks and cosines between different people
are kept, no embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.errors import ModelError
from agent.ports import FaceDetector, FaceEmbedder
from agent.values import Face, Image, Vector

# A landmark this share of the eye distance from its golden place is another one. Measured with
# detector inputs of 320 to 960 pixels: at most 0.13.
MAX_SHIFT = 0.30
# Root mean square difference of the cosines. Measured for buffalo_s: 0.000 on another machine,
# 0.03 with red and blue swapped in the embedder.
MAX_DRIFT = 0.015
# A mirrored face is still itself; noise, zeros and constants are not. Measured: 0.92 to 0.96.
MIN_MIRRORED = 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """What a pack makes of the golden *picture*.

    *landmarks* is float32 (n, 5, 2) of its n faces in pixels, from left to right; *cosines* are
    those of the n * (n - 1) / 2 pairs of faces in the order of ``numpy.triu_indices``.
    """

    picture: Image
    landmarks: Vector
    cosines: Sequence[float]


@dataclass(frozen=True, slots=True)
class SelfTest:
    """*fault*: do not recognise anybody. *warning*: could not be tested. Both empty: passed."""

    fault: str = ""
    warning: str = ""


def self_test(detector: FaceDetector | None, embedder: FaceEmbedder, golden: Golden) -> SelfTest:
    """Run *golden* through both networks, or the embedder alone.

    Never raises for a broken model: it says so.
    """
    try:
        fault = ""
        if detector is not None:
            fault = _detector_fault(detector.detect(golden.picture), golden)
        fault = fault or _embedder_fault(embedder, golden)
    except ModelError as error:
        fault = str(error)
    return SelfTest(fault=fault)


def _detector_fault(faces: list[Face], golden: Golden) -> str:
    found = sum(_is_found(points, faces) for points in golden.landmarks)
    wanted = len(golden.landmarks)
    # A small detector input or a strict vision.min_detection_score may miss one, but not most.
    if found * 2 < wanted:
        return (
            f"the face detector finds {found} of {wanted} faces of the golden picture: a wrong or "
            "broken model, or models.detector_input_pixels or vision.min_detection_score is unfit"
        )
    return ""


def _is_found(points: Vector, faces: list[Face]) -> bool:
    reach = MAX_SHIFT * float(np.linalg.norm(points[1] - points[0]))
    return any(float(np.abs(face.landmarks - points).max()) <= reach for face in faces)


def _embedder_fault(embedder: FaceEmbedder, golden: Golden) -> str:
    picture = golden.picture
    # At the golden landmarks, so that the detector's input size does not matter.
    faces = [Face((0.0, 0.0, 1.0, 1.0), 1.0, points) for points in golden.landmarks]
    rows = embedder.embed(picture, faces)
    drift = _drift(rows, golden)
    if drift > MAX_DRIFT:
        swapped = embedder.embed(np.ascontiguousarray(picture[:, :, ::-1]), faces)
        if _drift(swapped, golden) < drift / 2:
            return "red and blue are swapped on the way to the embedder: everybody looks alike"
        return f"the embedder's answers differ by {drift:.3f} from the golden ones: a wrong model"
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    twin = embedder.embed(mirrored, [_mirrored(faces[0], picture.shape[1])])[0]
    if float(rows[0] @ twin) < MIN_MIRRORED:
        return f"a face and its mirror image are alike only by {float(rows[0] @ twin):.2f}"
    return ""


def _drift(rows: Vector, golden: Golden) -> float:
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    return float(np.sqrt(np.mean((cosines - np.asarray(golden.cosines)) ** 2)))


def _mirrored(face: Face, width: int) -> Face:
    """*face* where it is in the mirrored picture: left and right change places."""
    points = face.landmarks[[1, 0, 2, 4, 3]].copy()
    points[:, 0] = width - 1 - points[:, 0]
    return Face(face.box, face.score, points)
