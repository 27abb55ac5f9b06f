"""What every camera shares: reading picture files, turning, and numbering frames."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.base.errors import CameraError
from agent.base.values import Frame, Image

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

_TURNS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}


def mono_ms() -> int:
    """CLOCK_MONOTONIC in milliseconds."""
    return time.monotonic_ns() // 1_000_000


def turned(image: Image, degrees: int) -> Image:
    """*image* turned clockwise by 0, 90, 180 or 270 *degrees*."""
    if degrees == 0:
        return image
    return np.asarray(cv2.rotate(image, _TURNS[degrees]), np.uint8)


def as_bgr(image: NDArray[Any]) -> Image:
    """Whatever a driver gives as BGR, uint8 (height, width, 3).

    Takes grey, BGR and BGRA, of 8 or 16 bits (the upper 8 are kept) or floats from 0 to 1. Raises
    CameraError for anything else, naming it: guessed colours would look like nobody.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype.kind == "f":
        image = (np.nan_to_num(image).clip(0, 1) * 255).astype(np.uint8)
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.dtype != np.uint8 or image.ndim != 3 or not image.size:
        raise CameraError(f"camera: gives {image.dtype} {image.shape}, which is no picture")
    channels = image.shape[2]
    if channels == 3:
        return image
    if channels not in (1, 4):
        raise CameraError(
            f"camera: gives {channels} values a pixel; 1 (grey), 3 (BGR) and 4 (BGRA) can be used:"
            " set another pixel format in its driver or pipeline"
        )
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def is_picture(path: Path) -> bool:
    """Whether the name says that this is a photograph rather than a video."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def read_picture(path: Path) -> Image:
    """The picture at *path* as BGR, upright as its EXIF says. Raises CameraError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CameraError(f"{path}: there is no such file") from error
    except OSError as error:
        raise CameraError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise CameraError(f"{path}: the file is empty")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise CameraError(f"{path}: cannot be decoded: {str(error.err).strip()}") from error
    if image is None:
        raise CameraError(
            f"{path}: not a picture, or a damaged one; readable are {', '.join(PICTURE_SUFFIXES)}"
        )
    return np.asarray(image, np.uint8)


class LiveNumbers:
    """Turns and numbers the frames of a live camera.

    Index and time go on over a reopening, so that nothing downstream sees a clock step back.
    """

    def __init__(self, rotate_degrees: int) -> None:
        self._rotate = rotate_degrees
        self._index = -1
        self._t_ms = -1
        self._origin_ms: int | None = None

    def frame(self, image: NDArray[Any], taken_ms: int | None = None) -> Frame:
        """The next frame. *taken_ms*: when the sensor took it, in milliseconds of any one clock.

        Raises CameraError when *image* is no picture.
        """
        now = mono_ms()
        taken = now if taken_ms is None else taken_ms
        if self._origin_ms is None:
            self._origin_ms = taken
        self._index += 1
        self._t_ms = max(taken - self._origin_ms, self._t_ms + 1)
        return Frame(turned(as_bgr(image), self._rotate), self._index, self._t_ms, now)
