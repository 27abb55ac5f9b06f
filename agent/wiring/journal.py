"""The journal of the device that the settings describe, opened anew by each thread."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.base.errors import JournalError
from agent.base.events import Moment
from agent.device.health import HealthBoard
from agent.journal import Journal
from agent.keys.ring import KeyRing
from agent.settings.model import Settings

LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class JournalFile:
    """Where it is, under which key, and how long acknowledged events stay."""

    path: Path
    key: bytes = field(repr=False)
    keep_days: float

    @classmethod
    def of(cls, settings: Settings, ring: KeyRing) -> JournalFile:
        """That of the device with these *settings*."""
        path = settings.state_directory / "journal.db"
        return cls(path, ring.journal_key(), settings.journal.keep_days)

    def open(self) -> Journal:
        """For one thread. Raises JournalError."""
        return Journal(self.path, self.key, keep_days=self.keep_days)

    def check(self, now: Moment, health: HealthBoard) -> None:
        """Before the first use: a damaged file is salvaged, with an alarm. Raises JournalError."""
        journal, report = Journal.open_checked(
            self.path, self.key, now=now, keep_days=self.keep_days
        )
        journal.close()
        if report.damage:
            health.alarm(
                "journal_damaged",
                f"{report.damage}; {report.salvaged} events salvaged, the damaged file is "
                f"kept as {report.set_aside}",
            )

    def drained(self, seconds: float) -> bool:
        """Wait at most *seconds* until the city has everything; True if it has."""
        until = time.monotonic() + seconds
        with self.open() as journal:
            while journal.stats().pending:
                if time.monotonic() >= until:
                    return False
                time.sleep(LOOK_SECONDS)
        return True


def upkeep(journal: Journal, now: Moment, health: HealthBoard) -> None:
    """Correct times and delete what is past its own; an alarm for as long as that fails."""
    try:
        journal.correct(now)
        journal.prune(now)
    except JournalError as error:
        health.alarm("journal_upkeep", str(error))
    else:
        health.clear("journal_upkeep")
