"""A stand-in for ``cv2.VideoCapture`` that behaves like it, for cameras this machine lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agent.base.values import Image


class FakeCapture:
    """Gives *images*, then fails as OpenCV does: False and no image, for ever."""

    def __init__(
        self,
        images: Sequence[Image] = (),
        values: dict[int, float] | None = None,
        *,
        opens: bool = True,
        obeys: bool = True,
    ) -> None:
        self._images = list(images)
        self._opens = opens
        self._obeys = obeys
        self.values = dict(values or {})
        self.asked: dict[int, float] = {}
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._opens and not self.released

    def read(self) -> tuple[bool, Any]:
        if self.released or not self._images:
            return False, None
        return True, self._images.pop(0)

    def set(self, propId: int, value: float) -> bool:  # noqa: N803 - OpenCV's name
        self.asked[propId] = value
        if self._obeys:
            self.values[propId] = value
        return self._obeys

    def get(self, propId: int) -> float:  # noqa: N803 - OpenCV's name
        return self.values.get(propId, 0.0)

    def release(self) -> None:
        self.released = True


class Opener:
    """A ``connect`` that hands out *captures* one after the other and notes what was asked."""

    def __init__(self, *captures: FakeCapture) -> None:
        self._captures = list(captures)
        self.calls: list[tuple[str, int, tuple[int, ...]]] = []

    def __call__(self, name: str, backend: int, parameters: Sequence[int]) -> FakeCapture:
        self.calls.append((name, backend, tuple(parameters)))
        return self._captures.pop(0)
