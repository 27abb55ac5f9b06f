"""Face detection, alignment and embedding by insightface's own model classes on ONNX Runtime.

Models are opened from explicit, already verified paths; nothing is looked up or downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.scrfd import SCRFD
from insightface.utils import face_align

from agent.errors import ModelError
from agent.values import Face, Image, Vector

# insightface aligns through a scikit-image call that newer scikit-image renames.
warnings.filterwarnings("ignore", message="`estimate` is deprecated", category=FutureWarning)

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
}
STRIDE_PIXELS = 32  # SCRFD's coarsest stride: input sides are multiples of it
# SCRFD-500M misses faces that fill its input: a frame without faces is looked at once more, small.
CLOSE_UP_PIXELS = 160


def open_session(path: Path, threads: int, provider: str) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session for *path* on exactly the named *provider*.

    Raises ModelError if the provider is not in this build of ONNX Runtime or the file is no model:
    ONNX Runtime alone would fall back to the CPU without a word.
    """
    wanted = PROVIDERS[provider]
    available = onnxruntime.get_available_providers()
    if wanted[0] not in available:
        raise ModelError(
            f'models.provider = "{provider}" needs ONNX Runtime with {wanted[0]}; this one has '
            f"{', '.join(available)}. Install the matching onnxruntime, or set it to "
            '"cpu".'
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads burn a small board's battery and heat budget between frames.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=wanted)
    except Exception as error:  # ONNX Runtime raises a family of its own without a common base
        raise ModelError(f"model {path} cannot be opened: {_first_line(error)}") from error


class ScrfdDetector:
    """SCRFD face detector with five landmarks, as a ports.FaceDetector."""

    def __init__(
        self, path: Path, *, input_pixels: int, min_score: float, threads: int, provider: str
    ) -> None:
        """*input_pixels* is the longer side of the network's input, a multiple of 32."""
        self._input_pixels = input_pixels
        session = open_session(path, threads, provider)
        try:
            self._model = SCRFD(str(path), session=session, static_shape_sessions=False)
            self._model.prepare(0, det_thresh=min_score)
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise ModelError(f"model {path} is not an SCRFD face detector: {error}") from error

    def detect(self, image: Image) -> list[Face]:
        """All faces in a BGR *image* of any size, best score first."""
        boxes, landmarks = self._model.detect(image, input_size=self._input_size(image))
        if len(boxes) == 0:
            boxes, landmarks = self._model.detect(
                image, input_size=(CLOSE_UP_PIXELS, CLOSE_UP_PIXELS)
            )
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

    def __init__(self, path: Path, *, pack: str, threads: int, provider: str) -> None:
        self._pack = pack
        session = open_session(path, threads, provider)
        try:
            self._model = ArcFaceONNX(str(path), session=session)
            self._size = int(self._model.input_size[0])
            self._length = int(self._model.output_shape[1])
        except (AssertionError, IndexError, TypeError, ValueError) as error:
            raise ModelError(f"model {path} is not an ArcFace embedder: {error}") from error

    @property
    def pack(self) -> str:
        return self._pack

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        """Unit rows, float32 (len(faces), d); all *faces* of one frame in one run of the model."""
        if not faces:
            return np.empty((0, self._length), dtype=np.float32)
        crops: list[Any] = [
            face_align.norm_crop(image, face.landmarks, image_size=self._size) for face in faces
        ]
        rows = np.asarray(self._model.get_feat(crops), dtype=np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        unit: Vector = (rows / np.maximum(norms, 1e-12)).astype(np.float32)
        return unit


def _to_stride(pixels: float) -> int:
    return max(STRIDE_PIXELS, -(-round(pixels) // STRIDE_PIXELS) * STRIDE_PIXELS)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
