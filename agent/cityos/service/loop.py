"""The city's loop: messages in, one commit for all that came together, acks out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from agent.base.errors import CityError, LinkError, MessageError
from agent.base.ports import Link
from agent.base.retry import Backoff
from agent.base.values import LinkDown, LinkUp, Message
from agent.cityos.events.intake import TAKES, Intake, IntakeStatus
from agent.protocol.topics import ANY, BY_PATH, Topic, parse_topic

log = logging.getLogger(__name__)

TURN_SECONDS = 0.2
BUSY_SECONDS, STAY_BUSY_SECONDS = 0.02, 0.5  # while a handler has something to answer
ASK_SECONDS = 2.0  # how often what is missing is looked for


# Above so many messages that the broker has not taken over, handlers are asked for no more.
MOST_UNANSWERED = 40


class Handler(Protocol):
    """Answers what devices say beside events; called from the city's thread, so it must be quick.

    What it does that takes long it does in a thread of its own, and returns the outcome from
    ``due``.
    """

    @property
    def topics(self) -> Sequence[Topic]:
        """Where it listens."""

    def take(self, messages: Sequence[Message], now_ms: int) -> list[Message]:
        """What to publish in answer to *messages*, at once. Raises CityError, never MessageError.

        They may never come again: a device that gets no answer asks anew.
        """

    def due(self, now_ms: int) -> list[Message]:
        """What is to be published now; asked several times a second while connected.

        A handful at a time: the rest is fetched as fast as the broker takes it.
        """


def subscriptions(share: str = "", handlers: Sequence[Handler] = ()) -> tuple[str, ...]:
    """What one worker listens to; workers of one *share* divide all that is not kept among them."""
    prefix = f"$share/{share}/" if share else ""
    taken = dict.fromkeys((*TAKES, *(topic for handler in handlers for topic in handler.topics)))
    # What the broker keeps it says to nobody who shares.
    shared = (prefix + topic.of(ANY) for topic in taken if not topic.retained)
    return (*shared, *(topic.of(ANY) for topic in taken if topic.retained))


class CityService:
    """Runs in the calling thread (``run``) or in its own (``start``); outlives the broker."""

    def __init__(
        self,
        link: Callable[[], Link],
        intake: Intake,
        backoff: Backoff,
        handlers: Sequence[Handler] = (),
    ) -> None:
        """*handlers* get what comes on their topics, the *intake* everything else."""
        self._make_link = link
        self._intake = intake
        self._backoff = backoff
        self._handlers = tuple(handlers)
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
        busy_until = 0.0
        while not self._stop.is_set():
            messages: list[Message] = []
            ended = ""
            busy = time.monotonic() < busy_until
            for event in link.turn(BUSY_SECONDS if busy else TURN_SECONDS):
                if isinstance(event, Message):
                    messages.append(event)
                elif isinstance(event, LinkUp):
                    self._up()
                elif isinstance(event, LinkDown):
                    ended = event.reason
            # Even when the link has ended, what it brought is committed; devices send again
            # what was not acknowledged, and that is a repeat then.
            answers = self._take(messages)
            if ended:
                return ended
            _publish(link, answers)
            if self.ready and time.monotonic() >= self._next_ask:
                self._next_ask = time.monotonic() + ASK_SECONDS
                _publish(link, self._intake.due())
            for handler in self._handlers:
                if self.ready and link.unanswered < MOST_UNANSWERED:
                    due = handler.due(_wall_ms())
                    _publish(link, due)
                    if due or any(_kind(message) in handler.topics for message in messages):
                        busy_until = time.monotonic() + STAY_BUSY_SECONDS
        return "stopped"

    def _take(self, messages: list[Message]) -> list[Message]:
        """Events first: their acks wait for nothing else."""
        kinds = [_kind(message) for message in messages]
        taken = {kind for handler in self._handlers for kind in handler.topics}
        pairs = list(zip(messages, kinds, strict=True))
        answers = self._intake.take([message for message, kind in pairs if kind not in taken])
        for handler in self._handlers:
            own = [message for message, kind in pairs if kind in handler.topics]
            if own:
                answers += handler.take(own, _wall_ms())
        return answers

    def _up(self) -> None:
        if self._trouble:
            log.info("city side is back")
        self._trouble = ""
        self._backoff.succeeded()
        self._ready.set()


def _publish(link: Link, messages: Sequence[Message]) -> None:
    for message in messages:
        link.publish(message.topic, message.payload, retain=message.retain)


def _kind(message: Message) -> Topic | None:
    try:
        return BY_PATH.get(parse_topic(message.topic)[1])
    except MessageError:
        return None  # the intake counts it as refused


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
