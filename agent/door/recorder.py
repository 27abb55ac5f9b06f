"""Who was recognised becomes an event in the journal, once a stop visit."""

from __future__ import annotations

from dataclasses import replace

from agent.base.events import Moment, StoredEvent
from agent.base.ports import Clock, EventLog
from agent.journey.boarding import BoardingRules


class Recorder:
    """Rules, journal and clock of a door as the pipeline needs them."""

    def __init__(self, rules: BoardingRules, journal: EventLog, clock: Clock) -> None:
        self._rules = rules
        self._journal = journal
        self._clock = clock

    def record(self, person: str, mono_ms: int) -> StoredEvent | None:
        """The event of *person*, whose face was seen at *mono_ms*, on the disk; None for a repeat.

        Raises JournalError; it is as if nothing had happened then.
        """
        event = self._rules.event_for(person, self._moment(mono_ms))
        if event is None:
            return None
        stored = self._journal.append(event)
        self._rules.committed(event)
        return stored

    def _moment(self, mono_ms: int) -> Moment:
        """The moment the face was seen, not the moment it was decided on."""
        now = self._clock.now()
        return replace(now, mono_ms=mono_ms, wall_ms=now.wall_ms - (now.mono_ms - mono_ms))
