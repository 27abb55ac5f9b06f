"""An infrared camera that is not there: it plays answers, or finds everybody warm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

from agent.base.drivers import SensorDriver
from agent.base.values import Face, Frame


class FakeInfrared:
    """A ports.LivenessSensor that plays *answers*, frame by frame; afterwards it sees nothing.

    Like the real thing it cannot tell faces narrower than *min_face_pixels*: skin farther away
    reflects too little.
    """

    def __init__(self, answers: Iterable[bool | None], *, min_face_pixels: float = 40.0) -> None:
        self._answers = iter(answers)
        self._min_face_pixels = min_face_pixels

    def look(self, frame: Frame, faces: Sequence[Face]) -> list[bool | None]:
        """The next answer, for every face near enough."""
        del frame
        answer = next(self._answers, None)
        return [answer if face.width >= self._min_face_pixels else None for face in faces]


DRIVER = SensorDriver(lambda: FakeInfrared(repeat(True)))
