"""From picture files to embeddings in memory, through the door's own networks and quality gate.

The folders this is meant for hold photographs of one person each, with strangers in the
background of some. The face meant is the largest and most central one: box area less twice the
squared distance of its middle from the picture's (insightface's own rule). Nothing read here is
ever written.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.base.errors import CameraError
from agent.base.ports import FaceDetector, FaceEmbedder
from agent.base.values import Face, Image, Quality, Vector

NO_PICTURE = "unreadable"
NO_FACE = "no_face"


@dataclass(frozen=True, slots=True, eq=False)
class PictureView:
    """One picture's face and its quality; nothing embedded where it was refused.

    ``probe`` is its embedding as at the door, ``reference`` as for enrolment, where asked for.
    """

    quality: Quality
    probe: Vector | None = None
    reference: Vector | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Eyes:
    """Networks for one thread: they are not shared, as detectors keep state between calls."""

    detector: FaceDetector
    embedder: FaceEmbedder
    judge: Callable[[Image, Face], Quality]


def read_views(
    probes: Collection[Path],
    references: Collection[Path],
    read: Callable[[Path], Image],
    open_eyes: Callable[[], Eyes],
    *,
    workers: int,
    done: Callable[[], None],
) -> dict[Path, PictureView]:
    """The face of every picture, embedded as *probes* or *references* or both.

    *read* raises CameraError for what is no picture. *open_eyes* is called once in each of
    *workers* threads, *done* after each picture.
    """
    own = threading.local()
    as_probe, as_reference = set(probes), set(references)
    pictures = sorted(as_probe | as_reference)

    def look(path: Path) -> PictureView:
        if not hasattr(own, "eyes"):
            own.eyes = open_eyes()
        view = _view(path, read, own.eyes, path in as_probe, path in as_reference)
        done()
        return view

    with ThreadPoolExecutor(workers) as pool:
        try:
            return dict(zip(pictures, pool.map(look, pictures), strict=True))
        except BaseException:
            # Ctrl-C and a lost model must not wait for two thousand pictures to be read.
            pool.shutdown(cancel_futures=True)
            raise


def _view(
    path: Path, read: Callable[[Path], Image], eyes: Eyes, probe: bool, reference: bool
) -> PictureView:
    try:
        image = read(path)
    except CameraError:
        return PictureView(Quality(0.0, NO_PICTURE))
    face = main_face(image, eyes.detector.detect(image))
    if face is None:
        return PictureView(Quality(0.0, NO_FACE))
    quality = eyes.judge(image, face)
    if not quality.usable:
        return PictureView(quality)
    return PictureView(
        quality,
        probe=eyes.embedder.embed(image, [face])[0] if probe else None,
        reference=eyes.embedder.embed_reference(image, [face])[0] if reference else None,
    )


def main_face(image: Image, faces: Sequence[Face]) -> Face | None:
    """The face the picture is of, None without any."""
    middle = np.array([image.shape[1], image.shape[0]]) / 2

    def weight(face: Face) -> float:
        x1, y1, x2, y2 = face.box
        away = np.array([x1 + x2, y1 + y2]) / 2 - middle
        return face.width * face.height - 2.0 * float(away @ away)

    return max(faces, key=weight, default=None)
