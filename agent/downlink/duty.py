"""The gallery's part in the sync thread: it passes messages on, both ways, and nothing else."""

from __future__ import annotations

import queue
from dataclasses import dataclass

from agent.ports import Publish
from agent.wire.gallery import ask_topic, body_topic, head_topic, key_topic, now_topic

# Parts are 192 KB: 6 MB at most. What does not fit is asked for again.
INBOX = 32
OUTBOX = 256


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of one connection; those of an earlier one mean nothing any more."""

    connection: int
    topic: str
    payload: bytes


class GalleryDuty:
    """A ``Duty`` of the sync thread; another thread calls ``get`` and ``put``."""

    def __init__(self, device: str) -> None:
        self._ask_topic = ask_topic(device)
        self.topics = [find(device) for find in (head_topic, now_topic, key_topic, body_topic)]
        self._inbox: queue.Queue[Letter] = queue.Queue(INBOX)
        self._outbox: queue.Queue[Letter] = queue.Queue(OUTBOX)
        self._publish: Publish | None = None
        self.connection = 0  # counts up; 0 before the first
        self.up = False
        self.dropped = 0

    def connected(self, publish: Publish) -> None:
        self._publish = publish
        self.connection += 1
        self.up = True

    def disconnected(self) -> None:
        self.up = False
        self._publish = None

    def receive(self, topic: str, payload: bytes) -> None:
        try:
            self._inbox.put_nowait(Letter(self.connection, topic, payload))
        except queue.Full:
            self.dropped += 1

    def turn(self, now_ms: int) -> None:
        """Send what the other thread left."""
        del now_ms
        while self._publish is not None:
            try:
                letter = self._outbox.get_nowait()
            except queue.Empty:
                return
            if letter.connection == self.connection:
                self._publish(letter.topic, letter.payload)

    def get(self, seconds: float) -> Letter | None:
        """The next message of the connection that is up, None if there is none in time."""
        try:
            letter = self._inbox.get(timeout=seconds)
        except queue.Empty:
            return None
        return letter if self.up and letter.connection == self.connection else None

    def put(self, connection: int, payload: bytes) -> None:
        """Send *payload* to the city if *connection* is still up. Lost when nothing is sent."""
        try:
            self._outbox.put_nowait(Letter(connection, self._ask_topic, payload))
        except queue.Full:
            self.dropped += 1
