"""What time it is, as far as this device can know: for what must not be done after its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from agent.base.events import Moment
from agent.base.values import BUILT_MS


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class TrustedTime:
    """The device's clock where it is set; else what the city said last, carried on. Any thread."""

    def __init__(
        self,
        clock: Callable[[], Moment] | None = None,
        mono_ms: Callable[[], int] = _mono_ms,
    ) -> None:
        self._clock = clock
        self._mono_ms = mono_ms
        self._lock = threading.Lock()
        self._offset_ms: int | None = None

    def learn(self, server_ms: int) -> None:
        """The city just said that it is *server_ms*, Unix time. It never goes back by that."""
        if server_ms < BUILT_MS:
            return
        offset_ms = server_ms - self._mono_ms()
        with self._lock:
            if self._offset_ms is None or offset_ms > self._offset_ms:
                self._offset_ms = offset_ms

    def now_ms(self) -> int | None:
        """Unix time in milliseconds; None while nobody has said."""
        if self._clock is not None:
            moment = self._clock()
            if moment.is_known:
                return moment.wall_ms
        with self._lock:
            return None if self._offset_ms is None else self._mono_ms() + self._offset_ms
