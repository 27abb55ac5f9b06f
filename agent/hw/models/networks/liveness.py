"""Faceplugin's liveness network on ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from agent.base.drivers import OpenSession
from agent.base.errors import ModelError
from agent.base.values import Face, Image, Vector
from agent.hw.models.insightface import not_numbers
from agent.hw.models.networks.onnx import open_session

SIDE_PIXELS = 128
# Sides of the crops in face sizes (the longer side of the box): even steps of about a half octave,
# from skin or paper grain to a sheet's edge or a bezel; the network was made for 2.7. Which crops
# matters little: of all 35 ways to put three crops of 0.6 to 1.75 beside the wide one, 34 have a
# sequence EER of at most 8% on NUAA's crops of eight people (median 6.1%; the wide one alone 11%).
CLOSE = (0.85, 1.2, 1.75)
LEAST_WIDE = 2.0
WIDE = (2.7, 2.35)
WIDE_INSIDE = 0.8  # share of a wide crop that must lie in the picture; else a narrower one is taken
# Mean log-odds of the crops to log-odds with 0 at the pack's threshold: where as many photographs
# of 167 people of LFW are refused as attacks drawn from 60 of them (agent.sim.attacks) pass, 7%.
# Nobody of NUAA took part in it; there 1 of 17 live sequences is refused, and 2 of 80 printed pass.
NEUTRAL, TEMPERATURE = 2.3, 2.0
MOST = 6.0  # bound of one view's log-odds: no single view outweighs a sequence


class FacepluginLiveness:
    """``fr_liveness.onnx`` as a ports.LivenessModel: four crops of each face, one run each.

    Input (1, 3, 128, 128), BGR, 0 to 255; three logits, class 0 = live. All three were checked on
    Silent-Face's samples: with RGB, or with pixels 0 to 1, the live face is refused.
    """

    def __init__(
        self,
        path: Path,
        *,
        pack: str,
        threads: int,
        provider: str,
        opener: OpenSession = open_session,
    ) -> None:
        """Raises ModelError when *path* takes or gives something else."""
        self._path = path
        self._pack = pack
        self._session = opener(path, threads, provider)
        given, got = self._session.get_inputs(), self._session.get_outputs()
        wanted = [1, 3, SIDE_PIXELS, SIDE_PIXELS]
        if len(given) != 1 or given[0].shape != wanted or got[0].shape != [1, 3]:
            raise ModelError(
                f"model {path} is no liveness network of this kind: it takes "
                f"{[item.shape for item in given]} and gives {[item.shape for item in got]}, "
                f"not {wanted} and [1, 3]"
            )
        self._input = given[0].name

    @property
    def pack(self) -> str:
        return self._pack

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        """float32 (len(faces),): above 0 is rather alive, within -6 to 6.

        Raises ModelError when the network's output is not numbers.
        """
        found = [self._face(image, face) for face in faces]
        return np.asarray(found, dtype=np.float32)

    def _face(self, image: Image, face: Face) -> float:
        reaches = (*CLOSE, wide_reach(image, face))
        mean = float(np.mean([self._crop(crop(image, face, reach)) for reach in reaches]))
        return float(np.clip((mean - NEUTRAL) / TEMPERATURE, -MOST, MOST))

    def _crop(self, pixels: Image) -> float:
        blob = pixels.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
        logits = self._session.run(None, {self._input: blob})[0][0]
        if not np.isfinite(logits).all():
            # Infinite ones would be cut to -6 or 6 and look like an answer.
            raise not_numbers(self._path)
        live, *others = logits
        return float(live - np.logaddexp.reduce(others))


def wide_reach(image: Image, face: Face) -> float:
    """The side of the widest crop, in face sizes, that still shows mostly picture."""
    for reach in WIDE:
        left, top, side = _square(face, reach)
        across = min(left + side, image.shape[1]) - max(left, 0.0)
        down = min(top + side, image.shape[0]) - max(top, 0.0)
        if across * down >= WIDE_INSIDE * side**2:
            return reach
    return LEAST_WIDE


def crop(image: Image, face: Face, reach: float) -> Image:
    """A square of *reach* face sizes about the face, BGR (128, 128, 3).

    What lies beyond the picture repeats its edge: mirrored or black borders are taken for those
    of a sheet (on NUAA's crops at 2.7 face sizes: EER 43% mirrored, 36% black, 26% repeated).
    """
    left, top, side = _square(face, reach)
    zoom = SIDE_PIXELS / side
    # Only what the square shows is worked on: a frame is many times larger.
    columns = _span(left, side, image.shape[1])
    rows = _span(top, side, image.shape[0])
    image = image[rows[0] : rows[1], columns[0] : columns[1]]
    left, top = left - columns[0], top - rows[0]
    across = down = zoom
    if zoom < 0.67:  # shrunk by averaging first: skipping pixels makes a moire of its own
        height, width = image.shape[:2]
        shrunk = max(round(width * zoom), 1), max(round(height * zoom), 1)
        image = np.asarray(cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA), np.uint8)
        across, down = zoom * width / shrunk[0], zoom * height / shrunk[1]
    move = np.array([[across, 0.0, -left * zoom], [0.0, down, -top * zoom]])
    size = (SIDE_PIXELS, SIDE_PIXELS)
    return np.asarray(
        cv2.warpAffine(image, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def _span(start: float, side: float, limit: int) -> tuple[int, int]:
    """First and last + 1 of the picture's pixels that the square touches, at least one."""
    first = min(max(math.floor(start) - 1, 0), limit - 1)
    return first, max(min(math.ceil(start + side) + 2, limit), first + 1)


def _square(face: Face, reach: float) -> tuple[float, float, float]:
    """Left, top and side of the square, in pixels of the picture."""
    x1, y1, x2, y2 = face.box
    side = max(face.width, face.height, 1.0) * reach
    return (x1 + x2 - side) / 2, (y1 + y2 - side) / 2, side
