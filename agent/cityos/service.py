"""The city's loop: messages in, one commit for all that came together, acks out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from agent.cityos.intake import Intake, IntakeStatus
from agent.errors import CityError, LinkError
from agent.ports import Link
from agent.sync.backoff import Backoff
from agent.values import LinkDown, LinkUp, Message

log = logging.getLogger(__name__)

TURN_SECONDS = 0.2
ASK_SECONDS = 2.0  # how often what is missing is looked for


def subscriptions(share: str = "") -> tuple[str, ...]:
    """What one worker listens to; workers of one *share* divide the batches among them."""
    prefix = f"$share/{share}/" if share else ""
    return f"{prefix}kp1/+/u/ev", f"{prefix}kp1/+/u/res", "kp1/+/u/st"


class CityService:
    """Runs in the calling thread (``run``) or in its own (``start``); outlives the broker."""

    def __init__(self, link: Callable[[], Link], intake: Intake, backoff: Backoff) -> None:
        self._make_link = link
        self._intake = intake
        self._backoff = backoff
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""
        self._next_ask = 0.0

    @property
    def ready(self) -> bool:
        """Whether it is connected and listening."""
        return self._ready.is_set()

    @property
    def status(self) -> IntakeStatus:
        """What was counted since the start; safe from any thread."""
        return self._intake.status

    @property
    def trouble(self) -> str:
        """Why it is not connected; empty when it is."""
        return self._trouble

    def wait_ready(self, seconds: float) -> bool:
        """Wait until it listens; False if it does not within *seconds*."""
        return self._ready.wait(seconds)

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self.run, name="city", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> bool:
        """End; what was received before is committed and acknowledged. False if it takes longer."""
        self._stop.set()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def run(self) -> None:
        """Serve until ``stop``."""
        while not self._stop.is_set():
            link = self._make_link()
            try:
                link.open()
                reason = self._connection(link)
            except (LinkError, CityError) as error:
                reason = str(error)
            # A defect must not end the city's intake: it is logged whole, and a new link made.
            except Exception as error:
                log.exception("the city side failed unexpectedly and starts again")
                reason = f"defect: {type(error).__name__}"
            finally:
                self._ready.clear()
                link.close()
            if self._stop.is_set():
                return
            if not self._trouble:
                log.warning("city side is down: %s", reason)
            self._trouble = reason
            self._stop.wait(self._backoff.failed())

    def _connection(self, link: Link) -> str:
        while not self._stop.is_set():
            messages: list[Message] = []
            ended = ""
            for event in link.turn(TURN_SECONDS):
                if isinstance(event, Message):
                    messages.append(event)
                elif isinstance(event, LinkUp):
                    self._up()
                elif isinstance(event, LinkDown):
                    ended = event.reason
            # Even when the link has ended, what it brought is committed; devices send again
            # what was not acknowledged, and that is a repeat then.
            acks = self._intake.take(messages)
            if ended:
                return ended
            for ack in acks:
                link.publish(ack.topic, ack.payload)
            if self.ready and time.monotonic() >= self._next_ask:
                self._next_ask = time.monotonic() + ASK_SECONDS
                for command in self._intake.due():
                    link.publish(command.topic, command.payload)
        return "stopped"

    def _up(self) -> None:
        if self._trouble:
            log.info("city side is back")
        self._trouble = ""
        self._backoff.succeeded()
        self._ready.set()
