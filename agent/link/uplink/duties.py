"""Keeps the duties of the sync thread apart: what fails in one costs the others nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable

from agent.base.errors import KaopassError, LinkError, MessageError
from agent.base.ports import Duty, Publish
from agent.base.values import Message

log = logging.getLogger(__name__)


class WatchedDuty:
    """A duty whose defects cost neither events nor other duties anything."""

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._topics = tuple(duty.topics)
        self._up = False
        self._refused = 0
        self.failures = 0

    def listens_to(self, topic: str) -> bool:
        return any(
            topic == each or (each.endswith("/#") and topic.startswith(each[:-1]))
            for each in self._topics
        )

    def connected(self, publish: Publish) -> None:
        self._up = True
        self._guarded(lambda: self._duty.connected(publish))

    def disconnected(self) -> None:
        if self._up:
            self._up = False
            self._guarded(self._duty.disconnected)

    def receive(self, message: Message) -> bool:
        """False if the message was nonsense."""
        return self._guarded(lambda: self._duty.receive(message.topic, message.payload))

    def turn(self, now_ms: int) -> None:
        self._guarded(lambda: self._duty.turn(now_ms))

    def _guarded(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except LinkError:
            raise  # the connection's end, which is everybody's
        except MessageError as error:
            self._refused += 1
            if _worth_saying(self._refused):
                log.warning("message %d from the city is refused: %s", self._refused, error)
            return False
        # Whatever defect there is, events must go on leaving and other duties go on.
        except Exception as error:  # noqa: BLE001
            self._failed(error)
        return True

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        if _worth_saying(self.failures):
            log.error(
                "%s failed, %d times by now: %s",
                type(self._duty).__name__,
                self.failures,
                error,
                exc_info=None if isinstance(error, KaopassError) else error,
            )


def _worth_saying(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th ...: a flood of nonsense must not become one of log lines."""
    return count & (count - 1) == 0
