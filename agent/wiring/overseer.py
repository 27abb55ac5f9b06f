"""Who oversees the loop at the door: its figures, its signs of life, and the journal's upkeep."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.base.ports import Clock
from agent.device.health import HealthBoard
from agent.device.notify import Watchdog
from agent.door.recogniser import Step
from agent.journal import Journal
from agent.wiring.journal import upkeep

UPKEEP_SECONDS = 60.0


class LoopOverseer:
    """All of it happens in the pipeline's thread, whose *journal* it is."""

    def __init__(
        self,
        health: HealthBoard,
        watchdog: Watchdog,
        journal: Journal,
        clock: Clock,
        watch: Callable[[Step], None],
    ) -> None:
        self.count, self.alarm, self.clear = health.count, health.alarm, health.clear
        self.saw = watch
        self._health = health
        self._watchdog = watchdog
        self._journal = journal
        self._clock = clock
        self._next_upkeep = 0.0

    def turn(self) -> None:
        """The loop lives; do what is due."""
        self._watchdog.feed()
        if time.monotonic() >= self._next_upkeep:
            self._next_upkeep = time.monotonic() + UPKEEP_SECONDS
            upkeep(self._journal, self._clock.now(), self._health)
