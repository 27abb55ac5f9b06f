"""A camera over frames that are in memory already."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from agent.base.errors import CameraError
from agent.base.values import Frame


class RecordedCamera:
    """A ``ports.Camera`` that gives *frames* from the first at every ``open()``, as seen now."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = frames
        self._next: int | None = None

    def open(self) -> None:
        self._next = 0

    def read(self) -> Frame | None:
        """The next frame, None after the last. Raises CameraError before ``open()``."""
        if self._next is None:
            raise CameraError("recorded camera: not open")
        if self._next == len(self._frames):
            return None
        self._next += 1
        return replace(self._frames[self._next - 1], mono_ms=time.monotonic_ns() // 1_000_000)

    def close(self) -> None:
        self._next = None
