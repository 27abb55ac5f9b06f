"""insightface's SCRFD and ArcFace classes, alone and with lean work around the network.

``import insightface`` reads every model it knows, its window toolkit and SciPy: 1 s and 60 MB on a
small board. Here only the two classes are read. What they do around ``session.run`` is replaced
where it costs: the input is built in one pass, and only candidates above the limit are decoded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.base.values import Image, Vector

PACKAGE = "insightface"
FOLDERS = ("model_zoo", "utils")


@contextmanager
def _without_its_inits() -> Iterator[None]:
    """Let insightface's submodules be imported without the ``__init__`` of their packages.

    The packages are stood in for by empty ones and forgotten afterwards, so that a later plain
    ``import insightface`` is whole.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None or PACKAGE in sys.modules:
        yield
        return
    root = Path(next(iter(spec.submodule_search_locations)))
    stand_ins = {PACKAGE: root} | {f"{PACKAGE}.{name}": root / name for name in FOLDERS}
    for name, folder in stand_ins.items():
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)


with _without_its_inits():
    from insightface.model_zoo.arcface_onnx import ArcFaceONNX
    from insightface.model_zoo.scrfd import SCRFD
    from insightface.utils.face_align import arcface_dst


class LeanScrfd(SCRFD):  # type: ignore[misc]  # insightface has no types
    """SCRFD on a given session. Like its parent not thread-safe."""

    def __init__(self, session: Any, *, min_score: float) -> None:
        # Without a path the parent does not read the file a second time as a protobuf.
        super().__init__(session=session, static_shape_sessions=False)
        self.prepare(0, det_thresh=min_score)

    def _prepare_input_blob(self, img: Image, input_size: tuple[int, int]) -> Vector:
        """The picture as (x - 127.5) / 128 in RGB planes, float32 (1, 3, height, width)."""
        width, height = input_size
        blob = np.empty((1, 3, height, width), np.float32)
        for plane, channel in zip(blob[0], reversed(cv2.split(img)), strict=True):
            np.multiply(channel, np.float32(1 / self.input_std), out=plane, dtype=np.float32)
        blob -= np.float32(self.input_mean / self.input_std)
        return blob

    def forward(
        self, img: Image, threshold: float
    ) -> tuple[list[Vector], list[Vector], list[Vector]]:
        """Scores (n, 1), boxes (n, 4) and landmarks (n, 5, 2) of each stride, in input pixels.

        Raises FloatingPointError when a score is not a number: below any limit, NaN is no face.
        """
        height, width = img.shape[:2]
        blob = self._prepare_input_blob(img, (width, height))
        outputs = self.session.run(self.output_names, {self.input_name: blob})
        if self.batched:
            outputs = [output[0] for output in outputs]
        found: tuple[list[Vector], list[Vector], list[Vector]] = ([], [], [])
        for level, stride in enumerate(self._feat_stride_fpn):
            scores = outputs[level]
            best = scores.max()
            if not np.isfinite(best):
                raise FloatingPointError("scores are not numbers")
            if best < threshold:
                continue
            rows = np.flatnonzero(scores[:, 0] >= threshold)
            centres = self._centres(height // stride, width // stride, stride)[rows]
            reach = outputs[level + self.fmc][rows] * stride
            points = outputs[level + self.fmc * 2][rows] * stride
            found[0].append(scores[rows])
            found[1].append(np.hstack([centres - reach[:, :2], centres + reach[:, 2:]]))
            found[2].append(points.reshape(len(rows), -1, 2) + centres[:, np.newaxis])
        return found

    def _centres(self, rows: int, columns: int, stride: int) -> Vector:
        """The anchors' centres (rows * columns * anchors, 2), kept for the next frame."""
        key = (rows, columns, stride)
        if key not in self.center_cache:
            y, x = np.mgrid[:rows, :columns]
            grid = np.stack([x, y], axis=-1).reshape(-1, 2) * stride
            self.center_cache[key] = np.repeat(grid, self._num_anchors, axis=0).astype(np.float32)
        centres: Vector = self.center_cache[key]
        return centres


class LeanArcFace(ArcFaceONNX):  # type: ignore[misc]  # insightface has no types
    """ArcFace on a given session. Its parent would read the whole file again for two constants."""

    def __init__(self, session: Any, *, mean: float = 127.5, scale: float = 127.5) -> None:
        # The parent's constructor is not called: all it sets is set here.
        self.model_file, self.session, self.taskname = None, session, "recognition"
        self.input_mean, self.input_std = mean, scale
        taken, (given,) = session.get_inputs()[0], session.get_outputs()
        self.input_name, self.input_shape = taken.name, taken.shape
        self.input_size = tuple(taken.shape[2:4][::-1])
        self.output_names, self.output_shape = [given.name], given.shape


def similarity_to_template(landmarks: Vector, size: int) -> NDArray[np.float64]:
    """The turn, scale and shift (2, 3) that brings five *landmarks* nearest to ArcFace's own.

    The least-squares similarity of Umeyama 1991, in closed form for the plane: as complex numbers
    the best factor is sum(conj(source) * target) / sum(|source|^2) about the centres. Equal to
    scikit-image's ``SimilarityTransform``, which insightface uses, at a thirtieth of the time.
    Coinciding landmarks give NaN.
    """
    scale = size / 112.0
    template = arcface_dst.astype(np.float64) * scale
    source = landmarks[:, 0].astype(np.float64) + 1j * landmarks[:, 1].astype(np.float64)
    target = template[:, 0] + 1j * template[:, 1]
    middle, aim = source.mean(), target.mean()
    source = source - middle
    spread = float((source.real**2 + source.imag**2).sum())
    if spread == 0.0:
        return np.full((2, 3), np.nan)
    factor = complex((source.conj() * (target - aim)).sum()) / spread
    shift = aim - factor * middle
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def aligned(image: Image, landmarks: Vector, size: int) -> Image:
    """The face cut out upright, BGR (size, size, 3), black where the picture ends."""
    matrix = similarity_to_template(landmarks, size)
    if not np.isfinite(matrix).all():
        return np.zeros((size, size, 3), np.uint8)
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), borderValue=0.0), np.uint8)
