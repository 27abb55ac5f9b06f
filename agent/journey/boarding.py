"""Boarding rules: when a recognised person at the door is an event, and which.

The same person at the same door and stop visit within the repeat window is one event, the first
(requirement C3): nobody boards twice by looking twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.base.values import Event, EventKind, Moment, Place, StoredEvent
from agent.keys.pseudonym import Pseudonyms

KINDS = {
    ("bus", "in"): EventKind.BOARDING,
    ("bus", "out"): EventKind.ALIGHTING,
    ("hall", "in"): EventKind.CHECK_IN,
    ("hall", "out"): EventKind.CHECK_OUT,
}


class BoardingRules:
    """Turns matches into events. Remembers, in memory only, who passed within the window."""

    def __init__(
        self,
        pseudonyms: Pseudonyms,
        place: Callable[[], Place],
        *,
        direction: str,
        repeat_ms: int,
    ) -> None:
        """*place* says where the device is now; *direction* is "in" or "out"."""
        self._pseudonyms = pseudonyms
        self._place = place
        self._direction = direction
        self._repeat_ms = repeat_ms
        # (kind, pseudonym, place) -> monotonic time of the event, of this boot only
        self._last: dict[tuple[EventKind, str, Place], int] = {}

    def remember(self, events: Iterable[StoredEvent], boot: str) -> None:
        """Take up what the journal knows, so that a restart does not count someone again."""
        for stored in events:
            event = stored.event
            if event.moment.boot == boot:
                key = (event.kind, event.person, event.place)
                self._last[key] = max(self._last.get(key, 0), event.moment.mono_ms)

    def event_for(self, person: str, moment: Moment) -> Event | None:
        """The event *person* at the door makes at *moment*, or None if it is a repeat.

        A repeat does not extend the window. Nothing is remembered until ``committed``.
        """
        place = self._place()
        kind = KINDS[place.kind, self._direction]
        pseudonym = self._pseudonyms.of(person, place.kind)
        last = self._last.get((kind, pseudonym, place))
        if last is not None and moment.mono_ms - last < self._repeat_ms:
            return None
        return Event(kind, place.kind, pseudonym, place, moment)

    def committed(self, event: Event) -> None:
        """*event* is in the journal: from now on it counts as having happened."""
        now = event.moment.mono_ms
        self._last = {k: t for k, t in self._last.items() if now - t < self._repeat_ms}
        self._last[event.kind, event.person, event.place] = now
