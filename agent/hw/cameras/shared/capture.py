"""OpenCV's captures as live cameras: what USB, network and pipeline cameras share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

# Both are read by OpenCV's native code at its first capture: FFmpeg would print to standard error
# (addresses with their passwords among it), and V4L2 would wait 10 s for a camera that hangs.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")

import cv2
import numpy as np

from agent.base.errors import CameraError
from agent.base.values import Frame
from agent.hw.cameras.shared.pictures import LiveNumbers

LOG_ERRORS = 2  # OpenCV's level: a camera that cannot be opened is reported by us, not by it
# OpenCV 4 has it at the top, OpenCV 5 in a module of its own.
set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
set_log_level(LOG_ERRORS)


class Capture(Protocol):
    """The part of ``cv2.VideoCapture`` in use."""

    def isOpened(self) -> bool: ...  # noqa: N802 - OpenCV's name

    def read(self) -> tuple[bool, Any]: ...

    def set(self, propId: int, value: float) -> bool: ...  # noqa: N803 - OpenCV's name

    def get(self, propId: int) -> float: ...  # noqa: N803 - OpenCV's name

    def release(self) -> None: ...


# name, backend and parameters to a capture
Connect = Callable[[str, int, Sequence[int]], Capture]


def connect(name: str, backend: int, parameters: Sequence[int]) -> Capture:
    """Open *name* with one of OpenCV's backends; look at ``isOpened()`` for success."""
    return cv2.VideoCapture(name, backend, list(parameters))


class LiveCapture:
    """A live camera behind OpenCV; a kind of camera says how to connect and what to call it."""

    def __init__(self, rotate_degrees: int) -> None:
        self._numbers = LiveNumbers(rotate_degrees)
        self._capture: Capture | None = None
        self._label = ""

    def open(self) -> None:
        """Connect to the camera. Raises CameraError with what to do about it."""
        self.close()
        self._capture = self._connect()

    def read(self) -> Frame | None:
        """The next frame; never None. Raises CameraError when the camera is lost."""
        if self._capture is None:
            raise CameraError(f"camera {self._label}: not open")
        good, image = self._capture.read()
        if not good or image is None:
            raise CameraError(f"camera {self._label}: no longer gives frames")
        return self._numbers.frame(np.asarray(image))

    def close(self) -> None:
        """Let go of the camera."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _connect(self) -> Capture:
        raise NotImplementedError
