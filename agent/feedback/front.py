"""What the door shows, on all its lamps and displays: one broken part never stops the door."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from agent.base.errors import FeedbackError
from agent.base.events import StoredEvent
from agent.base.ports import Display, Lamps
from agent.base.values import DoorSignal

log = logging.getLogger(__name__)

# These last until something else is shown; the others are a glance long.
STEADY_SIGNALS = frozenset({"ready", "out_of_service"})


class Feedback:
    """Shows each signal on the lamps and on every display.

    *open_lamps* makes the lamps (it may raise FeedbackError) and is asked again after a failure,
    at most every *retry_seconds*; None for a door without lamps. A part that fails is logged once,
    its return once, and ``alarms()`` names it meanwhile. May be called from several threads.
    """

    def __init__(
        self,
        open_lamps: Callable[[], Lamps] | None,
        displays: Sequence[Display],
        *,
        retry_seconds: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_lamps = open_lamps
        self._displays = list(displays)
        self._retry_seconds = retry_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._lamps: Lamps | None = None
        self._next_try = self._monotonic()
        self._steady = DoorSignal("ready")
        self._losses: dict[str, str] = {}
        self._closed = False
        with self._lock:
            self._reopen()

    def show(self, signal: DoorSignal, stored: StoredEvent | None = None) -> None:
        """Show *signal*; *stored* is the journalled event behind it, if there is one."""
        with self._lock:
            if self._closed:
                return
            if signal.name in STEADY_SIGNALS:
                self._steady = signal
            self._reopen()
            self._light(signal)
            for number, display in enumerate(self._displays, start=1):
                part = f"display {number}"
                try:
                    display.show(signal, stored)
                except FeedbackError as error:
                    self._lost(part, error)
                else:
                    self._returned(part)

    def tend(self) -> None:
        """Bring back lost lamps if it is time to; cheap, to be called now and then."""
        with self._lock:
            if self._open_lamps is not None and self._lamps is None and not self._closed:
                self._reopen()
                self._light(self._steady)

    def alarms(self) -> tuple[str, ...]:
        """What does not work now, e.g. ``lamps: no GPIO chip``; empty when all is well."""
        with self._lock:
            return tuple(f"{part}: {reason}" for part, reason in self._losses.items())

    def close(self) -> None:
        """Release every part; safe to call twice."""
        with self._lock:
            self._closed = True
            self._drop_lamps()
            for display in self._displays:
                display.close()
            self._displays.clear()

    def _reopen(self) -> None:
        if self._open_lamps is None or self._lamps is not None:
            return
        now = self._monotonic()
        if now < self._next_try:
            return
        self._next_try = now + self._retry_seconds
        try:
            self._lamps = self._open_lamps()
        except FeedbackError as error:
            self._lost("lamps", error)

    def _light(self, signal: DoorSignal) -> None:
        if self._lamps is None:
            return
        try:
            self._lamps.show(signal)
        except FeedbackError as error:
            self._lost("lamps", error)
            self._drop_lamps()
        else:
            self._returned("lamps")

    def _drop_lamps(self) -> None:
        lamps, self._lamps = self._lamps, None
        if lamps is not None:
            try:
                lamps.close()
            except FeedbackError as error:
                log.warning("lamps did not close: %s", error)

    def _lost(self, part: str, error: FeedbackError) -> None:
        reason = str(error).removeprefix(f"{part}: ")
        if part not in self._losses:
            log.warning("%s: lost: %s", part, reason)
        self._losses[part] = reason

    def _returned(self, part: str) -> None:
        if self._losses.pop(part, None) is not None:
            log.warning("%s: back", part)
