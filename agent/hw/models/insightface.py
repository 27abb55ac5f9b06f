"""Face detection, alignment and embedding by insightface's own model classes on ONNX Runtime.

Models are opened from explicit, already verified paths; nothing is looked up or downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.base.drivers import ModelDriver, NetworkRequest, OpenSession
from agent.base.errors import ModelError
from agent.base.values import Face, Image, Vector
from agent.hw.models.networks.facemodels import LeanArcFace, LeanScrfd, aligned
from agent.hw.models.networks.onnx import open_session

STRIDE_PIXELS = 32  # SCRFD's coarsest stride: input sides are multiples of it
# SCRFD-500M misses faces that fill its input: a frame without faces is looked at once more, small.
CLOSE_UP_PIXELS = 160
# 99% of LFW lie within 0.92 and 1.12; a wild norm must not make a template match everybody.
REFERENCE_LENGTHS = (0.85, 1.20)
MAX_STRETCH = 20  # a strip longer than so many widths is no picture of anybody
MIN_IMAGE_PIXELS = 16  # a picture with a shorter side shows no face that could be used


class ScrfdDetector:
    """SCRFD face detector with five landmarks, as a ports.FaceDetector."""

    def __init__(
        self,
        path: Path,
        *,
        input_pixels: int,
        min_score: float,
        threads: int,
        provider: str,
        opener: OpenSession = open_session,
    ) -> None:
        """*input_pixels* is the longer side of the network's input, a multiple of 32."""
        self._path = path
        self._input_pixels = input_pixels
        session = opener(path, threads, provider)
        try:
            self._model = LeanScrfd(session, min_score=min_score)
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise ModelError(f"model {path} is not an SCRFD face detector: {error}") from error
        if not self._model.use_kps:
            raise ModelError(f"model {path} is not an SCRFD face detector with landmarks")

    def detect(self, image: Image) -> list[Face]:
        """All faces in a BGR *image* of any size, best score first.

        Raises ModelError when the network's output is not numbers.
        """
        short, long = sorted(image.shape[:2])
        if short < MIN_IMAGE_PIXELS or long > MAX_STRETCH * short:
            return []
        try:
            boxes, landmarks = self._model.detect(image, input_size=self._input_size(image))
            if len(boxes) == 0:
                close_up = (CLOSE_UP_PIXELS, CLOSE_UP_PIXELS)
                boxes, landmarks = self._model.detect(image, input_size=close_up)
        except FloatingPointError as error:
            raise not_numbers(self._path) from error
        if not (np.isfinite(boxes).all() and np.isfinite(landmarks).all()):
            raise not_numbers(self._path)
        return [
            Face((float(b[0]), float(b[1]), float(b[2]), float(b[3])), float(b[4]), points)
            for b, points in zip(boxes, landmarks, strict=True)
        ]

    def _input_size(self, image: Image) -> tuple[int, int]:
        # A square input would spend a quarter of the work on the padding of a 4:3 frame.
        height, width = image.shape[:2]
        scale = self._input_pixels / max(height, width)
        return _to_stride(width * scale), _to_stride(height * scale)


class ArcFaceEmbedder:
    """ArcFace embedder with five-point alignment to 112 x 112, as a ports.FaceEmbedder."""

    def __init__(
        self,
        path: Path,
        *,
        pack: str,
        threads: int,
        provider: str,
        mean: float = 127.5,
        scale: float = 127.5,
        typical_norm: float | None = None,
        opener: OpenSession = open_session,
    ) -> None:
        """Pixels go in as (value - *mean*) / *scale*. *typical_norm*: the median length of the
        network's raw output, None where it says nothing about the view."""
        self._path = path
        self._pack = pack
        self._typical_norm = typical_norm
        # On a processor a batch is no faster than its faces one by one, and takes room for all of
        # them (8 faces: 152 ms against 144 ms); a graphics processor is busy only with a batch.
        self._together = provider != "cpu"
        session = opener(path, threads, provider)
        try:
            self._model = LeanArcFace(session, mean=mean, scale=scale)
            # Some networks take one face at a time and no more.
            self._together &= self._model.input_shape[0] != 1
            self._size = int(self._model.input_size[0])
            self._length = int(self._model.output_shape[1])
        except (AssertionError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"model {path} is not an ArcFace embedder: {error}") from error

    @property
    def pack(self) -> str:
        return self._pack

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        """Unit rows, float32 (len(faces), d).

        Raises ModelError when the network's output is not numbers.
        """
        return _unit(self._raw([aligned(image, face.landmarks, self._size) for face in faces]))

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        """Rows for enrolment, float32 (len(faces), d): see ports.FaceEmbedder.

        The direction is the mean of the face's and its mirror image's. The length is the square
        root of *typical_norm* / norm: the raw output's norm falls with the quality of the view
        (Meng et al. 2021, MagFace), and over LFW's genuine pairs it tells the cosine better
        (correlation 0.50) than any measure on the picture (0.18). Strangers' cosines do not fall
        with it, so only templates are weighted: weighted by the probe's norm, faces in the dark
        or half covered were taken for somebody three times as often as promised.
        """
        crops = [aligned(image, face.landmarks, self._size) for face in faces]
        raw = self._raw(crops)
        mirrored = self._raw([np.ascontiguousarray(crop[:, ::-1]) for crop in crops])
        rows = _unit(_unit(raw) + _unit(mirrored))
        if self._typical_norm is None or not len(rows):
            return rows
        lengths = np.sqrt(self._typical_norm / np.linalg.norm(raw, axis=1, keepdims=True))
        weighted: Vector = (rows * np.clip(lengths, *REFERENCE_LENGTHS)).astype(np.float32)
        return weighted

    def _raw(self, crops: Sequence[Image]) -> Vector:
        """The network's output for aligned *crops*, float32 (len(crops), d)."""
        if not crops:
            return np.empty((0, self._length), dtype=np.float32)
        parts = [list(crops)] if self._together else [[crop] for crop in crops]
        rows: Vector = np.concatenate([self._model.get_feat(part) for part in parts]).astype(
            np.float32
        )
        if not np.isfinite(rows).all():
            raise not_numbers(self._path)
        return rows


def _unit(rows: Vector) -> Vector:
    unit: Vector = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    return unit


def not_numbers(path: Path) -> ModelError:
    """The error to raise when what the network at *path* gives is not finite."""
    return ModelError(
        f"model {path}: its output is not numbers; run: kaopass models verify, and if the files "
        "are whole, look at the memory or the accelerator"
    )


def _to_stride(pixels: float) -> int:
    return max(STRIDE_PIXELS, -(-round(pixels) // STRIDE_PIXELS) * STRIDE_PIXELS)


def arcface(asked: NetworkRequest) -> ArcFaceEmbedder:
    """The embedder of a pack; those of all packs take ArcFace's aligned face."""
    return ArcFaceEmbedder(
        asked.paths["embedder"],
        pack=asked.pack,
        threads=asked.threads,
        provider=asked.provider,
        mean=asked.mean,
        scale=asked.scale,
        typical_norm=asked.typical_norm,
        opener=asked.opener,
    )


def _scrfd(asked: NetworkRequest) -> ScrfdDetector:
    return ScrfdDetector(
        asked.paths["detector"],
        input_pixels=asked.input_pixels,
        min_score=asked.min_score,
        threads=asked.threads,
        provider=asked.provider,
        opener=asked.opener,
    )


DRIVER = ModelDriver(_scrfd, arcface)
