"""Live cameras through OpenCV: USB cameras by their stable name, network cameras by RTSP."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

# Both are read by OpenCV's native code at its first capture: FFmpeg would print to standard error
# (addresses with their passwords among it), and V4L2 would wait 10 s for a camera that hangs.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "3")

import cv2
import numpy as np

from agent.base.errors import CameraError
from agent.base.values import Frame
from agent.hw.cameras.frames import LiveNumbers

log = logging.getLogger(__name__)

LOG_ERRORS = 2  # OpenCV's level: a camera that cannot be opened is reported by us, not by it
# OpenCV 4 has it at the top, OpenCV 5 in a module of its own.
set_log_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
set_log_level(LOG_ERRORS)

BY_PATH = Path("/dev/v4l/by-path")
RTSP_SCHEMES = ("rtsp", "rtsps")


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


class V4l2Camera(LiveCapture):
    """A USB or other V4L2 camera.

    *source* is a name under /dev/v4l/by-path, a device path, or empty for the only USB camera.
    Width, height and rate are asked for; a camera gives the nearest it has.
    """

    def __init__(
        self,
        source: str = "",
        *,
        width_pixels: int = 640,
        height_pixels: int = 480,
        frames_per_second: float = 15.0,
        rotate_degrees: int = 0,
        by_path: Path = BY_PATH,
        connect: Connect = connect,
    ) -> None:
        super().__init__(rotate_degrees)
        self._source = source
        self._size = (width_pixels, height_pixels)
        self._fps = frames_per_second
        self._by_path = by_path
        self._open_capture = connect

    def _connect(self) -> Capture:
        device = self._device()
        self._label = str(device)
        _check_accessible(device, self._by_path)
        capture = self._open_capture(str(device), cv2.CAP_V4L2, ())
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"camera {device}: cannot be opened; {_held_by(device) or 'is it a camera?'}"
                + _listing(self._by_path)
            )
        width, height = self._size
        if width * height > 640 * 480:
            # Larger uncompressed pictures do not fit through USB 2 at a useful rate.
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
        capture.set(cv2.CAP_PROP_FPS, self._fps)
        got = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        if got != self._size:
            log.info("camera %s: asked for %dx%d, gives %dx%d", device, *self._size, *got)
        return capture

    def _device(self) -> Path:
        if not self._source:
            return self._only_one()
        path = Path(self._source)
        if not path.is_absolute():
            return self._by_path / self._source
        if path.name.startswith("video") and path.parent == Path("/dev"):
            log.warning(
                "camera %s: this number may name another camera after the next boot;"
                " use its name under %s",
                path,
                self._by_path,
            )
        return path

    def _only_one(self) -> Path:
        found = usb_cameras(self._by_path)
        if len(found) == 1:
            return found[0]
        if not found:
            raise CameraError(
                f"no camera: there is no USB camera under {self._by_path}; plug one in,"
                " or name another kind in camera.kind" + _listing(self._by_path)
            )
        raise CameraError(
            f"{len(found)} cameras: say which one in camera.source" + _listing(self._by_path)
        )


def usb_cameras(by_path: Path = BY_PATH) -> list[Path]:
    """The capture nodes of USB cameras by stable name, each camera once."""
    cameras: dict[Path, Path] = {}
    for path in sorted(by_path.glob("*-video-index0")):
        # The board's own codecs and scalers are listed too; and newer systems list a camera
        # twice, with the port's USB version in the second name.
        if "-usb" in path.name:
            cameras.setdefault(path.resolve(), path)
    return list(cameras.values())


def _listing(by_path: Path) -> str:
    names = sorted(path.name for path in by_path.glob("*")) if by_path.is_dir() else []
    if not names:
        return f"\n  {by_path} is empty"
    return "\n  ".join([f"\n  {by_path} has:", *names])


def _check_accessible(device: Path, by_path: Path) -> None:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CameraError(
            f"camera {device}: there is no such camera" + _listing(by_path)
        ) from error
    except PermissionError as error:
        raise CameraError(
            f"camera {device}: not allowed; add the user to the group 'video'"
        ) from error
    except OSError as error:
        raise CameraError(f"camera {device}: {error.strerror}") from error


def _held_by(device: Path) -> str:
    """Which other processes of this user have the device open, as far as can be seen."""
    real = device.resolve()
    holders = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            held = any(link.resolve() == real for link in (process / "fd").iterdir())
            name = (process / "comm").read_text(encoding="utf-8").strip() if held else ""
        except OSError:
            continue  # ended meanwhile, or another user's
        if held:
            holders.append(f"{name} (process {process.name})")
    return f"it is in use by {', '.join(holders)}" if holders else ""


class RtspCamera(LiveCapture):
    """A network camera. The address may hold ``user:password@``, which is never shown."""

    def __init__(
        self,
        source: str,
        *,
        timeout_seconds: float = 5.0,
        rotate_degrees: int = 0,
        connect: Connect = connect,
    ) -> None:
        super().__init__(rotate_degrees)
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._open_capture = connect

    def _connect(self) -> Capture:
        self._label = masked_address(self._source)
        milliseconds = int(self._timeout_seconds * 1000)
        capture = self._open_capture(
            self._source,
            cv2.CAP_FFMPEG,
            # OpenCV's own limit is 30 s for each.
            (
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                milliseconds,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                milliseconds,
            ),
        )
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"camera {self._label}: no stream within {self._timeout_seconds:g} s; check that"
                " the camera is on and reachable, and its path, user and password"
            )
        return capture


def masked_address(source: str) -> str:
    """Scheme, host and port of an RTSP address; the rest may hold secrets.

    Raises CameraError when *source* is no RTSP address.
    """
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in RTSP_SCHEMES:
        raise CameraError(
            "camera.source is no RTSP address; it should look like"
            " rtsp://user:password@192.0.2.7:554/stream"
        )
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") + "/..."
