"""The boot self-test: a golden picture through every network, compared with known values.

Without it a model that was exchanged, a broken accelerator or swapped colours look like "nobody
there" (requirement B8). Of the golden picture only landmarks, cosines between different people and
how alive they look are kept, no embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.base.errors import ModelError
from agent.base.ports import FaceDetector, FaceEmbedder, LivenessModel
from agent.base.values import Face, Image, Vector

# A landmark this share of the eye distance from its golden place is another one. Measured with
# detector inputs of 320 to 960 pixels: at most 0.13.
MAX_SHIFT = 0.30
# Root mean square difference of the cosines. Measured for buffalo_s: 0.000 on another machine,
# 0.03 with red and blue swapped in the embedder.
MAX_DRIFT = 0.015
# A mirrored face is still itself; noise, zeros and constants are not. Measured: 0.92 to 0.96.
MIN_MIRRORED = 0.75
# Root mean square difference of the log-odds. Measured for faceplugin: 0.00 at home, 0.01 with
# every pixel brighter by 1, 2.7 with red and blue swapped.
MAX_LIVENESS_DRIFT = 0.5
# The box about a face, from its landmarks, as a detector would draw it.
BOX_WIDTH_EYES, BOX_HEIGHT_EYES = 2.2, 2.75  # in distances between the eyes


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """What a pack makes of the golden *picture*.

    *landmarks* is float32 (n, 5, 2) of its n faces in pixels, from left to right; *cosines* are
    those of the n * (n - 1) / 2 pairs of faces in the order of ``numpy.triu_indices``; *log_odds*
    are how alive the n faces are to the pack's liveness network, if it has one.
    """

    picture: Image
    landmarks: Vector
    cosines: Sequence[float]
    log_odds: Sequence[float] = ()


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


def liveness_self_test(liveness: LivenessModel, golden: Golden) -> SelfTest:
    """Run the faces of *golden* through the liveness network; *golden* has its ``log_odds``.

    Never raises for a broken model: it says so.
    """
    try:
        found = liveness.log_odds(golden.picture, golden_faces(golden.landmarks))
    except ModelError as error:
        return SelfTest(fault=str(error))
    drift = float(np.sqrt(np.mean((found - np.asarray(golden.log_odds)) ** 2)))
    # Written so that what is not a number is a fault too.
    if not drift <= MAX_LIVENESS_DRIFT:
        return SelfTest(
            fault=f"the liveness network's answers differ by {drift:.2f} from the golden ones: a "
            "wrong model, or red and blue are swapped on the way to it"
        )
    return SelfTest()


def golden_faces(landmarks: Vector) -> list[Face]:
    """A face for each row of *landmarks*, float32 (n, 5, 2), in the same place at any detector."""
    faces = []
    for points in landmarks:
        x, y = (float(v) for v in points.mean(axis=0))
        eyes = float(np.linalg.norm(points[1] - points[0]))
        across, down = eyes * BOX_WIDTH_EYES / 2, eyes * BOX_HEIGHT_EYES / 2
        faces.append(Face((x - across, y - down, x + across, y + down), 1.0, points))
    return faces


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
    faces = golden_faces(golden.landmarks)
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
