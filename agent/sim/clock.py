"""A clock that stands still until it is moved."""

from __future__ import annotations

from agent.base.events import Moment


class SimClock:
    """A ``ports.Clock``: *wall_ms* is Unix time at *mono_ms*; *clock* says how it is known."""

    def __init__(
        self,
        mono_ms: int = 10_000,
        wall_ms: int = 1_790_000_010_000,
        *,
        boot: str = "boot",
        clock: str = "ntp",
        error_ms: int = 1,
    ) -> None:
        self._mono_ms = mono_ms
        self._offset_ms = wall_ms - mono_ms
        self._boot, self._clock, self._error_ms = boot, clock, error_ms

    def advance(self, ms: int) -> None:
        """Let *ms* pass, on all clocks."""
        self._mono_ms += ms

    def now(self) -> Moment:
        """The moment it stands at."""
        wall_ms = self._mono_ms + self._offset_ms
        return Moment(self._boot, self._mono_ms, wall_ms, self._clock, self._error_ms)

    def mono_ms(self) -> int:
        return self._mono_ms
