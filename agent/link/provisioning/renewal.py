"""The running agent's duty to have a new certificate long before the old one ends."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from agent.base.errors import KaopassError
from agent.base.values import BUILT_MS
from agent.keys.certificates import Identity, read_identity
from agent.link.provisioning.credentials import CERTIFICATE, IdentityFolder

log = logging.getLogger(__name__)

CHECK_SECONDS = 3600.0
_DAY_MS = 86_400_000
WARN_DAYS = 30


class Renewal:
    """Looks once an hour whether the certificate is past its time of renewal, and renews it.

    *renew* gets, proves and commits the next one and raises KaopassError; until it succeeds the old
    one stays in use, and it is tried again every hour. Never right at the start: a town whose
    power comes back must not ask its city for thousands of certificates at once.
    """

    def __init__(
        self,
        folder: IdentityFolder,
        renew: Callable[[], Identity],
        *,
        check_seconds: float = CHECK_SECONDS,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._folder = folder
        self._renew = renew
        self._check_seconds = check_seconds
        self._wall_ms = wall_ms
        self._draw = draw
        self._trouble = ""
        self._ends_ms: int | None = None

    def run(self, stop: threading.Event) -> None:
        """Look now and then until *stop*."""
        wait = self._check_seconds * (0.1 + 0.9 * self._draw())
        while not stop.wait(wait):
            self.turn()
            wait = self._check_seconds

    def turn(self) -> bool:
        """Look once; True if there is a new certificate."""
        try:
            return self._turn()
        except KaopassError as error:
            if str(error) != self._trouble:
                log.warning("the device's certificate is not renewed: %s", error)
            self._trouble = str(error)
            return False

    def alarms(self) -> list[str]:
        """What is wrong with the device's identity, for the status."""
        if self._ends_ms is None:
            return [f"certificate: {self._trouble}"] if self._trouble else []
        left_days = (self._ends_ms - self._wall_ms()) // _DAY_MS
        if self._wall_ms() < BUILT_MS or left_days >= WARN_DAYS:
            return []  # half a year is left for trying again: no reason to call somebody
        reason = self._trouble or "it is tried every hour"
        return [f"the device's certificate ends in {left_days} days: {reason}"]

    def _turn(self) -> bool:
        current = self._folder.current()
        if current is None:
            return False
        now_ms = self._wall_ms()
        identity = read_identity(current.read(CERTIFICATE) or b"")
        self._ends_ms = identity.not_after_ms
        # A clock that was never set says nothing about when.
        if now_ms < max(BUILT_MS, identity.renew_at_ms):
            self._trouble = ""
            return False
        self._ends_ms = self._renew().not_after_ms
        self._trouble = ""
        log.info("the device has a new certificate")
        return True
