"""How the agent is: counters, alarms and details from every thread, in one snapshot."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from agent.base.values import Health

log = logging.getLogger(__name__)


class HealthBoard:
    """Collects from any thread; ``snapshot()`` is what ``kaopass status`` shows.

    No name, face, key, pseudonym or person id may be put here: the socket shows it to operators.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = "starting"
        self._counters: dict[str, int] = {}
        self._alarms: dict[str, str] = {}
        self._detail: dict[str, Any] = {}
        self._alarm_sources: list[Callable[[], Sequence[str]]] = []
        self._detail_sources: dict[str, Callable[[], Any]] = {}

    def state(self, text: str) -> None:
        """What the agent is doing: "starting", "ready", "out of service", "stopping"."""
        with self._lock:
            self._state = text

    def count(self, name: str, by: int = 1) -> None:
        """Add *by* to the counter *name*; its unit is in the name unless it is plain events."""
        with self._lock:
            self._counters[name] = self._counters.get(name, 0) + by

    def alarm(self, key: str, text: str) -> None:
        """Raise the alarm *key*, or replace its text: what is wrong and what to do.

        It is logged when it is raised, not again while it lasts.
        """
        with self._lock:
            is_new = key not in self._alarms
            self._alarms[key] = text
        if is_new:
            log.error("alarm %s: %s", key, text)

    def clear(self, key: str) -> None:
        """The reason for the alarm *key* is gone, which is logged once; none is fine too."""
        with self._lock:
            was_there = self._alarms.pop(key, None) is not None
        if was_there:
            log.info("alarm %s is over", key)

    def detail(self, name: str, value: Any) -> None:
        """Set one detail; *value* must be something JSON can say."""
        with self._lock:
            self._detail[name] = value

    def watch_alarms(self, source: Callable[[], Sequence[str]]) -> None:
        """Ask *source* for its alarms at every snapshot, e.g. ``Feedback.alarms``."""
        with self._lock:
            self._alarm_sources.append(source)

    def watch_detail(self, name: str, source: Callable[[], Any]) -> None:
        """Ask *source* for the detail *name* at every snapshot."""
        with self._lock:
            self._detail_sources[name] = source

    def snapshot(self) -> Health:
        """All of it now; alarms by key first, then those of the sources."""
        with self._lock:
            state = self._state
            counters = dict(sorted(self._counters.items()))
            alarms = [text for _, text in sorted(self._alarms.items())]
            detail = dict(self._detail)
            alarm_sources = list(self._alarm_sources)
            detail_sources = dict(self._detail_sources)
        # Sources take locks of their own, so they are asked without holding this one.
        for source in alarm_sources:
            alarms.extend(source())
        for name, ask in detail_sources.items():
            detail[name] = ask()
        return Health(state, tuple(alarms), counters, detail)
