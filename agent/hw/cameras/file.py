"""A file instead of a camera: a video or GIF played through OpenCV, or one photograph."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np

from agent.base.drivers import CameraDriver, CameraRequest
from agent.base.errors import CameraError
from agent.base.values import Frame, Image
from agent.hw.cameras.shared.capture import Capture, Connect, connect
from agent.hw.cameras.shared.pictures import (
    PICTURE_SUFFIXES,
    as_bgr,
    is_picture,
    mono_ms,
    read_picture,
    turned,
)

log = logging.getLogger(__name__)

# Only names on this list go to FFmpeg: it would also play text files and fetch playlists.
VIDEO_SUFFIXES = (
    ".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mjpg", ".mjpeg",
    ".gif",
)  # fmt: skip
WHOLE_SHARE = 0.9  # containers only estimate their length; less than this of it is a cut


class FileCamera:
    """A ``ports.Camera`` over one file, as fast as it is read; ``t_ms`` is the file's own time.

    With *loop* a video starts again at its end and ``t_ms`` keeps growing; a photograph is one
    frame with ``still`` set, and is not repeated.
    """

    def __init__(
        self,
        path: Path,
        *,
        loop: bool = False,
        rotate_degrees: int = 0,
        connect: Connect = connect,
    ) -> None:
        self._path = path
        self._loop = loop
        self._rotate = rotate_degrees
        self._open_capture = connect
        self._capture: Capture | None = None
        self._ahead: Image | None = None
        self._opened = False
        self._index = 0
        self._round_frames = 0
        self._round_start_ms = 0  # t_ms where this round began
        self._first_ms = 0.0  # the file's own time of its first frame
        self._last_ms = -1
        self._gap_ms = 40

    def open(self) -> None:
        """Open the file and decode its first frame. Raises CameraError saying what is wrong."""
        self.close()
        self._check()
        self._index = self._round_frames = self._round_start_ms = 0
        self._last_ms = -1
        if is_picture(self._path):
            self._ahead = read_picture(self._path)
        else:
            self._start_round()
        self._opened = True

    def read(self) -> Frame | None:
        """The next frame, None at the end. Raises CameraError if the file ends too early."""
        if not self._opened:
            raise CameraError(f"{self._path}: not open")
        if is_picture(self._path):
            return self._still()
        image = self._next()
        if image is None:
            self._check_whole()
            if not self._loop:
                return None
            self._round_start_ms = self._last_ms + self._gap_ms
            self._start_round()
            image = self._next()
        return None if image is None else self._frame(image, still=False, t_ms=self._time())

    def close(self) -> None:
        """Close the file."""
        if self._capture is not None:
            self._capture.release()
        self._capture = self._ahead = None
        self._opened = False

    def _check(self) -> None:
        path = self._path
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise CameraError(f"{path}: there is no such file") from error
        except OSError as error:
            raise CameraError(f"{path}: cannot be read: {error.strerror}") from error
        if path.is_dir():
            raise CameraError(f'{path}: is a folder; for a folder set camera.kind = "folder"')
        if not (is_picture(path) or path.suffix.lower() in VIDEO_SUFFIXES):
            known = ", ".join(PICTURE_SUFFIXES + VIDEO_SUFFIXES)
            raise CameraError(
                f"{path}: {path.suffix or 'a name without ending'} is neither a picture nor a"
                f" video that can be read; these can: {known}"
            )
        if size == 0:
            raise CameraError(f"{path}: the file is empty")

    def _start_round(self) -> None:
        if self._capture is not None:
            # Opened anew, since not every container can be wound back.
            self._capture.release()
        capture = self._open_capture(str(self._path.resolve()), cv2.CAP_FFMPEG, ())
        self._capture = capture
        good, image = capture.read() if capture.isOpened() else (False, None)
        if not good:
            self.close()
            raise CameraError(
                f"{self._path}: not a video, damaged, or in a codec this OpenCV lacks; if another"
                " player shows it, convert it: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p NEW.mp4"
            )
        self._ahead = as_bgr(np.asarray(image))
        self._round_frames = 0
        self._first_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        rate = capture.get(cv2.CAP_PROP_FPS)
        self._gap_ms = max(1, round(1000 / rate)) if rate > 0 else 40

    def _next(self) -> Image | None:
        """The image ahead, or the next one of the file; None when there is no more."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            assert self._capture is not None  # noqa: S101 - open() has made sure
            good, image = self._capture.read()
            if not good:
                return None
            ahead = as_bgr(np.asarray(image))
        self._round_frames += 1
        return ahead

    def _time(self) -> int:
        """The current frame's ``t_ms``, strictly growing even where the file's stamps do not."""
        assert self._capture is not None  # noqa: S101 - open() has made sure
        own = self._capture.get(cv2.CAP_PROP_POS_MSEC) - self._first_ms
        t_ms = self._round_start_ms + round(own)
        if t_ms <= self._last_ms:
            t_ms = self._last_ms + self._gap_ms
        elif self._round_frames > 1:
            self._gap_ms = t_ms - self._last_ms
        return t_ms

    def _still(self) -> Frame | None:
        ahead, self._ahead = self._ahead, None
        return None if ahead is None else self._frame(ahead, still=True, t_ms=0)

    def _frame(self, image: Image, *, still: bool, t_ms: int) -> Frame:
        frame = Frame(turned(image, self._rotate), self._index, t_ms, mono_ms(), still)
        self._index += 1
        self._last_ms = t_ms
        return frame

    def _check_whole(self) -> None:
        """At the end: FFmpeg does not tell a file's end from the place where it was cut off."""
        assert self._capture is not None  # noqa: S101 - open() has made sure
        promised = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if self._round_frames < promised * WHOLE_SHARE or self._is_cut_gif():
            raise CameraError(
                f"{self._path}: damaged or cut off: it ends after {self._round_frames} frames"
                + (f" of about {promised}" if promised > self._round_frames else "")
            )
        if self._round_frames < promised:
            log.warning("%s: %d of %d frames", self._path, self._round_frames, promised)

    def _is_cut_gif(self) -> bool:
        if self._path.suffix.lower() != ".gif":
            return False
        with self._path.open("rb") as stream:
            stream.seek(max(0, self._path.stat().st_size - 64))
            return not stream.read().rstrip(b"\0").endswith(b";")  # a GIF's last byte


def _make(asked: CameraRequest) -> FileCamera:
    path = Path(asked.source).expanduser()
    return FileCamera(path, loop=asked.loop, rotate_degrees=asked.rotate_degrees)


def _problems(source: str) -> list[str]:
    path = Path(source).expanduser()
    if path.is_dir():
        return [f'camera.source {path} is a folder: set camera.kind = "folder"']
    return [] if path.exists() else [f"camera.source {path}: there is no such file"]


DRIVER = CameraDriver(_make, live=False, needs_source=True, problems=_problems)
