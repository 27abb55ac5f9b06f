"""What the agent does between two frames, beside the loop itself."""

from __future__ import annotations

from typing import cast

from agent.base.errors import JournalError
from agent.base.events import Moment
from agent.device.health import HealthBoard
from agent.journal import Journal
from agent.wiring.journal import upkeep

NOW = Moment("boot", 10_000, 1_790_000_010_000, "ntp", 1)


class FullDisk:
    """A journal on a disk that has no room for the first *times* prunings."""

    def __init__(self, times: int) -> None:
        self._left = times

    def correct(self, now: Moment) -> int:
        del now
        return 0

    def prune(self, now: Moment) -> int:
        del now
        self._left -= 1
        if self._left >= 0:
            raise JournalError("journal: disk full")
        return 0


def test_upkeep_that_works_again_ends_its_own_alarm_and_no_other() -> None:
    health = HealthBoard()
    journal = cast("Journal", FullDisk(times=2))
    health.alarm("journal", "no event can be written")
    for alarms in (2, 2, 1, 1):
        upkeep(journal, NOW, health)
        assert len(health.snapshot().alarms) == alarms
    assert health.snapshot().alarms == ("no event can be written",)
