"""What a running city side does by itself about residents: enrol, publish, forget."""

from __future__ import annotations

import logging
from collections import Counter

from agent.base.values import PURPOSES
from agent.cityos.residents.faces import Threshold
from agent.cityos.usecases import galleries, subject
from agent.cityos.usecases.city import OpenCity
from agent.cityos.usecases.from_devices import settle_waiting

log = logging.getLogger(__name__)

SETTLE_MS = 1_000
LOOK_MS = 5_000  # how often it is looked whether a version is due: 0.07 s for 25,324 residents
TIDY_MS = 30_000
FORGET_MS = 3_600_000  # late events are searched for among all of them


class TakeEnrolments:
    """Settles enrolments that came from devices."""

    def __init__(self, city: OpenCity, threshold: Threshold) -> None:
        self._city = city
        self._threshold = threshold
        self._next_ms = 0
        self.counts: Counter[str] = Counter()

    def __call__(self, now_ms: int) -> None:
        if now_ms >= self._next_ms:
            self._next_ms = now_ms + SETTLE_MS
            settled = settle_waiting(self._city, self._threshold, now_ms)
            self.counts.update(each.state for each in settled)


class AutoPublish:
    """Publishes a version when a resident came, changed or left, or a consent lapsed."""

    def __init__(self, city: OpenCity) -> None:
        """Where the gallery key is elsewhere it only says what waits."""
        self._city = city
        self._next_ms = 0
        self._told: set[str] = set()

    def __call__(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + LOOK_MS
        due = [name for name in PURPOSES if self._city.publisher.is_due(name, now_ms)]
        waiting = galleries.publish(self._city, due, now_ms).waiting
        for gallery in waiting:
            if gallery not in self._told:
                log.warning(
                    "gallery %s has changes that wait for a signature, as the gallery key is not"
                    " on this machine: kaopass city gallery publish %s --unsigned FILE",
                    *(gallery, gallery),
                )
        self._told = set(waiting)


class Tidy:
    """Forgets what everybody has applied, and whose late events still come."""

    def __init__(self, city: OpenCity) -> None:
        self._city = city
        self._next_ms = self._forget_ms = 0

    def __call__(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + TIDY_MS
        subject.forget_applied(self._city, now_ms)
        if now_ms >= self._forget_ms:
            self._forget_ms = now_ms + FORGET_MS
            subject.forget_late(self._city, now_ms)
