"""A thread that does one duty, is started again when it dies, and is given up on in the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

MOST_DEATHS = 3
WITHIN_SECONDS = 60.0


class Worker:
    """Runs *duty* in a thread of its own until it returns.

    ``check()`` from the main thread starts it again after an exception; the third death within a
    minute is raised there, so that the process ends and systemd starts it afresh.
    """

    def __init__(
        self,
        name: str,
        duty: Callable[[], None],
        *,
        final: tuple[type[Exception], ...] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """*final* names exceptions that another start would only repeat: raised at once."""
        self._name = name
        self._duty = duty
        self._final = final
        self._monotonic = monotonic
        self._deaths: list[float] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.finished = False

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Start the duty again if it died. Raises its exception on the third death in a minute."""
        if self._thread is None or self._thread.is_alive() or self.finished:
            return
        error, now = self._error, self._monotonic()
        if isinstance(error, self._final):
            raise error
        self._deaths = [at for at in self._deaths if now - at < WITHIN_SECONDS] + [now]
        if error is not None and len(self._deaths) >= MOST_DEATHS:
            raise error
        log.error("%s died (%s) and starts again", self._name, type(error).__name__)
        self.start()

    def join(self, seconds: float) -> bool:
        """Wait at most *seconds* for the duty to return; False if it has not."""
        if self._thread is not None:
            self._thread.join(seconds)
            return not self._thread.is_alive()
        return True

    def _run(self) -> None:
        try:
            self._duty()
        # Whatever it is, the main thread decides what becomes of it.
        except BaseException as error:
            if not isinstance(error, self._final):
                log.exception("%s failed", self._name)
            self._error = error
        else:
            self.finished = True
