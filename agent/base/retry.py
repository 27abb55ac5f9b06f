"""How long to wait before connecting again: full jitter, so that a fleet does not come at once.

After n failures in a row the wait is drawn evenly between the least one and the least doubled n
times, at most the greatest one ("full jitter", M. Brooker, Exponential Backoff and Jitter, AWS
Architecture Blog, 2015; with a floor, so that it is never 0).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Protocol

# The wait before a run's first attempt: a board that reboots again and again must not knock each
# time, but somebody who has just put the cause right and restarted it stands there and waits. Two
# thousand devices within it are fewer handshakes a second than one broker on two cores takes.
START_MAX_SECONDS = 30.0
_DOUBLINGS = 30  # beyond any sensible ceiling; keeps the power of two small


class FailureCount(Protocol):
    """Where failures in a row are counted, as long as whoever keeps them remembers."""

    @property
    def failures(self) -> int: ...

    def set_failures(self, count: int) -> None: ...


class FailuresInMemory:
    """Failures in a row, forgotten when the process ends."""

    def __init__(self) -> None:
        self.failures = 0

    def set_failures(self, count: int) -> None:
        self.failures = count


class Backoff:
    """Waits in seconds; failures are counted in *state*, over restarts where it lasts."""

    def __init__(
        self,
        state: FailureCount,
        *,
        min_seconds: float = 1.0,
        max_seconds: float = 300.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._state = state
        self._min_seconds = min_seconds
        self._max_seconds = max(min_seconds, max_seconds)
        self._draw = draw

    def failed(self) -> float:
        """Count a failure; returns the wait it costs."""
        self._state.set_failures(min(self._state.failures + 1, _DOUBLINGS))
        return self._wait()

    def at_start(self) -> float:
        """The wait before the very first connection: 0 unless the last run ended in failures.

        At most START_MAX_SECONDS; the failures still count for what comes after it.
        """
        return self._wait(START_MAX_SECONDS) if self._state.failures else 0.0

    def succeeded(self) -> None:
        """Forget the failures."""
        self._state.set_failures(0)

    def _wait(self, most_seconds: float = math.inf) -> float:
        ceiling = min(
            *(most_seconds, self._max_seconds), self._min_seconds * 2.0**self._state.failures
        )
        return self._min_seconds + self._draw() * max(0.0, ceiling - self._min_seconds)
