"""Faceplugin's face detector and its 68 landmarks on ONNX Runtime, as one ports.FaceDetector."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agent.base.drivers import ModelDriver, NetworkRequest, OpenSession
from agent.base.errors import ModelError
from agent.base.values import Face, Image, Vector
from agent.hw.models.insightface import MAX_STRETCH, MIN_IMAGE_PIXELS, arcface, not_numbers
from agent.hw.models.networks.liveness import FacepluginLiveness
from agent.hw.models.networks.onnx import open_session

WIDTH, HEIGHT, ANCHORS = 320, 240, 4420  # the network's one input size, and its boxes for it
# Windows overlap by this share of themselves: a face up to 35 pixels of their 320 is whole in one.
OVERLAP = 0.11
FAR = 0.67
MEAN, SCALE = 127, 128  # pixels go in as (value - mean) / scale, RGB
COARSER = 1.1  # a window may be seen so much coarser than asked for
EDGE_PIXELS = 2.0  # of the network's input: a box this near an inner edge is a face cut by it
# Two boxes are one face from this intersection over union on, or when this share of the smaller
# lies in the other: a window may show half a face that the whole picture shows entire.
SAME_FACE, INSIDE = 0.4, 0.6
# The limit of the package the network comes from: below it ears, hands and hats are faces.
LEAST_SCORE = 0.65
SIDE_PIXELS, POINTS = 64, 68
# The second look is at a square this many times the spread of the points of the first. On 870
# pictures of LFW: false non-matches at a false match rate of 0.1% 1.26% with it, 1.50% without.
SECOND_LOOK = 1.2
# Of the 68 points (the order of 300-W, Sagonas et al. 2013): the lids' four about each pupil, the
# tip of the nose, and the outer and inner corner of the mouth on each side.
FIVE = ((37, 38, 40, 41), (43, 44, 46, 47), (30,), (48, 60), (54, 64))

Boxes = tuple[Vector, Vector]


class FacepluginDetector:
    """``fr_detect.onnx`` for boxes and ``fr_landmark.onnx`` for five points in each.

    The detector sees 320 x 240 pixels and nothing else. For more, the picture is looked at whole
    and in windows that together show ``input_pixels``: 2 x 2 for 640 and a frame of 4 to 3. Faces
    of LFW pasted into 150 frames of 640 x 480, share found by width: 16 pixels 31% whole and all
    with windows (SCRFD-500M at 640: 93%), 20 pixels 71% and all, 28 pixels 99% and all; 12 pixels
    4% and 84% (57%).
    """

    def __init__(
        self,
        detector: Path,
        landmarks: Path,
        *,
        input_pixels: int,
        min_score: float,
        threads: int,
        provider: str,
        opener: OpenSession = open_session,
    ) -> None:
        """*input_pixels*: what the picture's longer side is seen as; windows make it up.

        Raises ModelError when a file takes or gives something else.
        """
        self._paths = detector, landmarks
        self._input_pixels = input_pixels
        self._min_score = max(min_score, LEAST_SCORE)
        self._detector = opener(detector, threads, provider)
        self._landmarks = opener(landmarks, threads, provider)
        anchors = [[1, ANCHORS, 2], [1, ANCHORS, 4]]
        self._input = _checked(self._detector, detector, [1, 3, HEIGHT, WIDTH], anchors)
        shape = [1, 1, SIDE_PIXELS, SIDE_PIXELS]
        self._crop = _checked(self._landmarks, landmarks, shape, [[1, 2 * POINTS]])

    def detect(self, image: Image) -> list[Face]:
        """All faces in a BGR *image* of any size, best score first.

        Raises ModelError when a network's output is not numbers.
        """
        short, long = sorted(image.shape[:2])
        if short < MIN_IMAGE_PIXELS or long > MAX_STRETCH * short:
            return []
        found = [self._look(image, *window) for window in windows(image, self._input_pixels)]
        scores = np.concatenate([scores for scores, _ in found])
        boxes = np.concatenate([boxes for _, boxes in found])
        if not len(scores):
            return []
        kept = distinct(scores, boxes)
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        return [
            Face(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                float(score),
                self._five_points(grey, box),
            )
            for box, score in zip(boxes[kept], scores[kept], strict=True)
        ]

    def _look(self, image: Image, left: int, top: int, right: int, bottom: int) -> Boxes:
        """Scores (n,) and boxes (n, 4) of the faces in one window, in pixels of *image*."""
        part = image[top:bottom, left:right]
        height, width = part.shape[:2]
        zoom = min(WIDTH / width, HEIGHT / height)
        size = max(round(width * zoom), 1), max(round(height * zoom), 1)
        # Shrunk much, skipped pixels would show; shrunk little, averaging costs more than it gives.
        shrink = cv2.INTER_AREA if zoom < FAR else cv2.INTER_LINEAR
        small = cv2.resize(part, size, interpolation=shrink)
        if size != (WIDTH, HEIGHT):
            missing = (0, HEIGHT - size[1], 0, WIDTH - size[0])
            small = cv2.copyMakeBorder(small, *missing, cv2.BORDER_CONSTANT, value=(MEAN,) * 3)
        blob = cv2.dnn.blobFromImage(small, 1 / SCALE, mean=(MEAN,) * 3, swapRB=True)
        scores, boxes = self._detector.run(["scores", "boxes"], {self._input: blob})
        scores, boxes = scores[0, :, 1], boxes[0]
        if not np.isfinite(scores.max()):
            raise not_numbers(self._paths[0])
        rows = np.flatnonzero(scores >= self._min_score)
        scores, boxes = scores[rows], boxes[rows] * _vector(WIDTH, HEIGHT, WIDTH, HEIGHT)
        if not np.isfinite(boxes).all():
            raise not_numbers(self._paths[0])
        whole = np.ones(len(rows), bool)
        for inner, near in (
            (left > 0, boxes[:, 0] < EDGE_PIXELS),
            (top > 0, boxes[:, 1] < EDGE_PIXELS),
            (right < image.shape[1], boxes[:, 2] > size[0] - EDGE_PIXELS),
            (bottom < image.shape[0], boxes[:, 3] > size[1] - EDGE_PIXELS),
        ):
            if inner:
                whole &= ~near
        moved: Vector = boxes[whole] / np.float32(zoom) + _vector(left, top, left, top)
        return scores[whole], moved

    def _five_points(self, grey: Image, box: Vector) -> Vector:
        side = float(max(box[2:] - box[:2]))
        points = self._points(grey, np.asarray((box[:2] + box[2:]) / 2, np.float32), side)
        low, high = points.min(axis=0), points.max(axis=0)
        # Bounded: what is no face may have its points anywhere.
        again = float(np.clip(max(high - low) * SECOND_LOOK, side / 2, side * 2))
        points = self._points(grey, np.asarray((low + high) / 2, np.float32), again)
        return np.stack([points[list(among)].mean(axis=0) for among in FIVE]).astype(np.float32)

    def _points(self, grey: Image, middle: Vector, side: float) -> Vector:
        """The 68 points (68, 2) of the face in a square, in pixels of *grey*."""
        pixels, corner, across = _square(grey, middle, side)
        size = (SIDE_PIXELS, SIDE_PIXELS)
        shrink = cv2.INTER_AREA if across > SIDE_PIXELS else cv2.INTER_LINEAR
        small = np.asarray(cv2.resize(pixels, size, interpolation=shrink), np.float32)
        blob = (small / np.float32(256))[np.newaxis, np.newaxis]
        (found,) = self._landmarks.run(["output"], {self._crop: blob})
        if not np.isfinite(found).all():
            raise not_numbers(self._paths[1])
        points: Vector = found.reshape(POINTS, 2) * np.float32(across) + corner
        return points


def windows(image: Image, input_pixels: int) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right, bottom of the whole picture, then of overlapping parts of it.

    As many parts as it takes to see its longer side as *input_pixels*, but never larger than it
    is; none where the whole does.
    """
    height, width = image.shape[:2]
    yield 0, 0, width, height
    zoom = min(1.0, input_pixels / max(height, width))
    columns, rows = _parts(width * zoom, WIDTH), _parts(height * zoom, HEIGHT)
    if columns * rows == 1:
        return
    across, down = _part_pixels(width, columns), _part_pixels(height, rows)
    for top in np.linspace(0, height - down, rows):
        for left in np.linspace(0, width - across, columns):
            yield int(left), int(top), int(left) + across, int(top) + down


def _parts(pixels: float, shown: int) -> int:
    return max(1, math.ceil(pixels / (shown * COARSER)))


def _part_pixels(pixels: int, count: int) -> int:
    """The least size of *count* parts that overlap by ``OVERLAP`` and cover *pixels*."""
    return min(pixels, math.ceil(pixels / (count - (count - 1) * OVERLAP)))


def distinct(scores: Vector, boxes: Vector) -> list[int]:
    """The rows of *boxes* (n, 4) that are faces of their own, best of *scores* (n,) first."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        low = np.maximum(boxes[left, :2], boxes[first, :2])
        high = np.minimum(boxes[left, 2:], boxes[first, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        united = areas[left] + areas[first] - common
        smaller = np.minimum(areas[left], areas[first])
        left = left[(common <= SAME_FACE * united) & (common <= INSIDE * smaller)]
    return kept


def _square(grey: Image, middle: Vector, side: float) -> tuple[Image, Vector, int]:
    """The pixels of a square, its left upper corner and its side, in whole pixels of *grey*.

    What lies beyond the picture repeats its edge.
    """
    height, width = grey.shape
    across = max(round(side), 4)
    left, top = (round(float(v) - across / 2) for v in np.clip(middle, 0, [width - 1, height - 1]))
    right, bottom = left + across, top + across
    pixels = grey[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    missing = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
    if any(missing):
        pixels = np.asarray(cv2.copyMakeBorder(pixels, *missing, cv2.BORDER_REPLICATE), np.uint8)
    return pixels, np.array([left, top], np.float32), across


def _vector(*values: int) -> Vector:
    return np.array(values, np.float32)


def _checked(session: Any, path: Path, taken: list[int], given: list[list[int]]) -> str:
    """The name of the input. Raises ModelError unless *session* takes and gives these shapes."""
    inputs = [item.shape for item in session.get_inputs()]
    outputs = [item.shape for item in session.get_outputs()]
    if inputs != [taken] or outputs != given:
        raise ModelError(
            f"model {path} is no network of Faceplugin's for this: it takes {inputs} and gives "
            f"{outputs}, not [{taken}] and {given}"
        )
    name: str = session.get_inputs()[0].name
    return name


def _detector(asked: NetworkRequest) -> FacepluginDetector:
    return FacepluginDetector(
        asked.paths["detector"],
        asked.paths["landmarks"],
        input_pixels=asked.input_pixels,
        min_score=asked.min_score,
        threads=asked.threads,
        provider=asked.provider,
        opener=asked.opener,
    )


def _liveness(asked: NetworkRequest) -> FacepluginLiveness:
    return FacepluginLiveness(
        asked.paths["liveness"],
        pack=asked.pack,
        threads=asked.threads,
        provider=asked.provider,
        opener=asked.opener,
    )


DRIVER = ModelDriver(_detector, arcface, _liveness)
