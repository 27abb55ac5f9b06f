"""A folder of pictures instead of a camera: photographs, or the frames of a sequence."""

from __future__ import annotations

import re
from pathlib import Path

from agent.base.drivers import CameraDriver, CameraRequest
from agent.base.errors import CameraError
from agent.base.values import Frame
from agent.hw.cameras.shared.pictures import (
    PICTURE_SUFFIXES,
    is_picture,
    mono_ms,
    read_picture,
    turned,
)


class FolderCamera:
    """A ``ports.Camera`` over the pictures of a folder, in natural order of their names.

    With *still* each picture stands by itself; otherwise they are frames at
    *frames_per_second*. Other files in the folder, and hidden ones, are passed over.
    """

    def __init__(
        self,
        path: Path,
        *,
        still: bool = False,
        frames_per_second: float = 15.0,
        loop: bool = False,
        rotate_degrees: int = 0,
    ) -> None:
        self._path = path
        self._still = still
        self._gap_ms = 1000 / frames_per_second
        self._loop = loop
        self._rotate = rotate_degrees
        self._pictures: list[Path] = []
        self._index = 0

    def open(self) -> None:
        """List the pictures. Raises CameraError if there is no such folder or no picture in it."""
        self._index = 0
        try:
            entries = list(self._path.iterdir())
        except FileNotFoundError as error:
            raise CameraError(f"{self._path}: there is no such folder") from error
        except NotADirectoryError as error:
            raise CameraError(
                f'{self._path}: is not a folder; for a file set camera.kind = "file"'
            ) from error
        except OSError as error:
            raise CameraError(f"{self._path}: cannot be read: {error.strerror}") from error
        pictures = [p for p in entries if is_picture(p) and not p.name.startswith(".")]
        if not pictures:
            raise CameraError(
                f"{self._path}: there is no picture in it ({', '.join(PICTURE_SUFFIXES)})"
            )
        self._pictures = sorted(pictures, key=natural_order)

    def read(self) -> Frame | None:
        """The next picture, None after the last. Raises CameraError naming one that is damaged."""
        if not self._pictures:
            raise CameraError(f"{self._path}: not open")
        if self._index >= len(self._pictures) and not self._loop:
            return None
        image = read_picture(self._pictures[self._index % len(self._pictures)])
        t_ms = round(self._index * self._gap_ms)
        frame = Frame(turned(image, self._rotate), self._index, t_ms, mono_ms(), self._still)
        self._index += 1
        return frame

    def close(self) -> None:
        """Forget the list."""
        self._pictures = []


def natural_order(path: Path) -> list[tuple[int, str]]:
    """A sort key by which picture 9 comes before picture 10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), part) if part.isdecimal() else (-1, part.lower()) for part in parts]


def _make(asked: CameraRequest) -> FolderCamera:
    return FolderCamera(
        Path(asked.source).expanduser(),
        still=asked.still,
        frames_per_second=asked.frames_per_second,
        loop=asked.loop,
        rotate_degrees=asked.rotate_degrees,
    )


def _problems(source: str) -> list[str]:
    path = Path(source).expanduser()
    if path.is_file():
        return [f'camera.source {path} is a file: set camera.kind = "file"']
    return [] if path.exists() else [f"camera.source {path}: there is no such folder"]


DRIVER = CameraDriver(_make, live=False, needs_source=True, problems=_problems)
