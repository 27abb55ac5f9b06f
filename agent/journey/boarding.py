"""Boarding rules: when a recognised person at the door is an event, and which.

The same person at the same door and stop visit within the repeat window is one event, the first
(requirement C3): nobody boards twice by looking twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.base.events import Moment, Passage, PassageEvent, Place, StoredEvent
from agent.keys.pseudonym import Pseudonyms

PASSAGES = {
    ("bus", "in"): Passage.BOARDING,
    ("bus", "out"): Passage.ALIGHTING,
    ("hall", "in"): Passage.CHECK_IN,
    ("hall", "out"): Passage.CHECK_OUT,
}


class BoardingRules:
    """Turns matches into events. Remembers, in memory only, who passed within the window."""

    def __init__(
        self,
        pseudonyms: Pseudonyms,
        place: Place,
        *,
        direction: str,
        repeat_ms: int,
    ) -> None:
        """*place* is where the device is until it is ``moved``; *direction* is "in" or "out"."""
        self._pseudonyms = pseudonyms
        self._place = place
        self._direction = direction
        self._repeat_ms = repeat_ms
        # who passed how at which stop visit -> monotonic time of the event, of this boot only
        self._last: dict[tuple[object, ...], int] = {}

    def remember(self, events: Iterable[StoredEvent], boot: str) -> None:
        """Take up what the journal knows, so that a restart does not count someone again."""
        for stored in events:
            event = stored.event
            if isinstance(event, PassageEvent) and event.moment.boot == boot:
                key = _visit(event)
                self._last[key] = max(self._last.get(key, 0), event.moment.mono_ms)

    def moved(self, place: Place) -> None:
        """From now on the device is at *place*."""
        self._place = place

    def event_for(self, person: str, moment: Moment) -> PassageEvent | None:
        """The event *person* at the door makes at *moment*, or None if it is a repeat.

        A repeat does not extend the window. Nothing is remembered until ``committed``.
        """
        place = self._place
        passage = PASSAGES[place.kind, self._direction]
        pseudonym = self._pseudonyms.of(person, place.kind)
        event = PassageEvent(passage, place.kind, pseudonym, place, moment)
        last = self._last.get(_visit(event))
        if last is not None and moment.mono_ms - last < self._repeat_ms:
            return None
        return event

    def committed(self, event: PassageEvent) -> None:
        """*event* is in the journal: from now on it counts as having happened."""
        now = event.moment.mono_ms
        self._last = {k: t for k, t in self._last.items() if now - t < self._repeat_ms}
        self._last[_visit(event)] = now


def _visit(event: PassageEvent) -> tuple[object, ...]:
    return event.passage, event.person, event.place.spot
