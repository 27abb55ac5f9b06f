"""What the demo's page shows now: filled by the demo's threads, read by the web server's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2

from agent.base.errors import ImageError
from agent.base.events import StoredEvent
from agent.base.values import Box, DoorSignal, Image
from agent.demo.annotate import Mark, annotate, hide
from agent.feedback.words import phrase

_STEADY = frozenset({"ready", "out_of_service"})
_JPEG_QUALITY = 82
_ROWS_SHOWN = 100
_PSEUDONYM_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Figures:
    """The counters beside the picture. ``sync`` is "connected" or "offline"."""

    frames: int = 0
    boardings: int = 0
    strangers: int = 0
    committed: int = 0
    at_city: int = 0
    enrolled: int = 0
    sync: str = "offline"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the city's table; ``kind`` as an event's, ``person`` a pseudonym."""

    device: str
    seq: int
    kind: str
    place: str
    wall_ms: int
    person: str


class DemoState:
    """Thread-safe; also a ``ports.Display``, so feedback shows its signals here.

    *broker* and *liveness* are facts of this run that the page states. A passing signal is shown
    for *show_seconds*.
    """

    def __init__(
        self,
        *,
        place: str = "bus",
        direction: str = "in",
        broker: str = "",
        liveness: bool = False,
        photographs: bool = True,
        show_seconds: float = 2.5,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place = place
        self._direction = direction
        self._facts = {"broker": broker, "liveness": liveness, "photographs": photographs}
        self._show_seconds = show_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._image: Image | None = None
        self._marks: tuple[Mark, ...] = ()
        self._veiled: tuple[Box, ...] = ()
        self._veiled_before: tuple[Box, ...] = ()
        self._number = 0
        self._encoded: dict[bool, tuple[int, bytes]] = {}
        self._steady = DoorSignal("ready")
        self._signal = self._steady
        self._noticed = 0.0
        self._notices = 0
        self._figures = Figures()
        self._rows: tuple[Row, ...] = ()

    def show_frame(self, image: Image, marks: Sequence[Mark], faces: Sequence[Box] = ()) -> None:
        """The newest picture and what to draw on it; *image* must not be changed afterwards.

        *faces* are further faces known to be in it, to be hidden too where faces are hidden.
        """
        with self._lock:
            self._image = image
            self._marks = tuple(marks)
            self._veiled_before = self._veiled
            self._veiled = (*faces, *(mark.box for mark in marks))
            self._number += 1

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        """Show *signal* on the lamp, as a display does."""
        del stored
        with self._lock:
            if signal.name in _STEADY:
                self._steady = signal
            self._signal = signal
            self._noticed = self._monotonic()
            self._notices += 1

    def close(self) -> None:
        """Nothing to release; the page keeps its last state until the server stops."""

    def set_figures(self, figures: Figures) -> None:
        with self._lock:
            self._figures = figures

    def set_table(self, rows: Sequence[Row]) -> None:
        """The city's table, newest first; the first hundred are shown."""
        with self._lock:
            self._rows = tuple(rows[:_ROWS_SHOWN])

    def snapshot(self) -> dict[str, Any]:
        """Everything but the picture, as the page's script reads it."""
        with self._lock:
            passing = self._signal.name not in _STEADY
            over = passing and self._monotonic() - self._noticed > self._show_seconds
            signal = self._steady if over else self._signal
            figures, rows, number = self._figures, self._rows, self._notices
        words = phrase(signal, self._place, "both", self._direction)
        return {
            "signal": signal.name,
            "number": number,
            "icon": words.icon,
            "colour": words.colour,
            "ja": words.lines[0],
            "en": words.lines[1],
            **self._facts,
            "figures": asdict(figures),
            "rows": [{**asdict(row), "person": row.person[:_PSEUDONYM_DIGITS]} for row in rows],
        }

    @property
    def number(self) -> int:
        """How many frames were shown; changes with every one."""
        with self._lock:
            return self._number

    def jpeg(self, *, hidden: bool) -> tuple[int, bytes]:
        """(number, JPEG) of the newest frame, faces under a mosaic if *hidden*; (0, b"") if none.

        Encoded when asked for, once for all who watch.
        """
        with self._lock:
            number, image, marks = self._number, self._image, self._marks
            known = self._encoded.get(hidden)
            # The previous frame's too: a face that the detector misses once stays hidden.
            boxes = self._veiled + self._veiled_before
        if image is None:
            return 0, b""
        if known is not None and known[0] == number:
            return known
        picture = annotate(hide(image, boxes) if hidden else image, marks)
        good, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not good:
            raise ImageError(f"a picture of shape {picture.shape} cannot be encoded as JPEG")
        result = (number, data.tobytes())
        with self._lock:
            self._encoded[hidden] = result
        return result
