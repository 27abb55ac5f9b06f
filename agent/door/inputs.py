"""What reaches the pipeline beside frames: put by any thread, handled in order in the pipeline's.

Like the slot for frames it never holds up who puts something in: when the pipeline is behind, the
oldest makes room, and is counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from agent.base.events import Place
from agent.base.values import DoorEdge

Input = DoorEdge | Place
I = TypeVar("I", DoorEdge, Place)  # noqa: E741 - as in the union above

MOST_WAITING = 256  # a door that chatters for a second without debounce


class Inputs:
    """Between the threads of drivers and the pipeline's."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Input] = deque(maxlen=most_waiting)
        self._dropped = 0
        self._handlers: dict[type, Callable[[Any], None]] = {}

    def put(self, given: Input) -> None:
        """Have *given* handled before the next frame. Any thread; returns at once."""
        with self._lock:
            self._dropped += len(self._waiting) == self._waiting.maxlen
            self._waiting.append(given)

    def handle(self, kind: type[I], handler: Callable[[I], None]) -> None:
        """From now on *handler* gets what is put of *kind*. The pipeline's thread."""
        self._handlers[kind] = handler

    def hand_over(self) -> int:
        """Have handled what waits now; how many were dropped since. The pipeline's thread."""
        with self._lock:
            waiting = len(self._waiting)
            dropped, self._dropped = self._dropped, 0
        for _ in range(waiting):  # one by one: should a handler fail, the others are still there
            with self._lock:
                given = self._waiting.popleft()
            self._handlers[type(given)](given)
        return dropped
