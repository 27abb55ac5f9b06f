"""The gallery's part in the sync thread: it passes messages on, both ways, and nothing else."""

from __future__ import annotations

import queue
import threading
from collections import deque
from dataclasses import dataclass

from agent.base.ports import Publish
from agent.protocol import topics

# Parts are 192 KB: 6 MB at most. What does not fit is asked for again.
PARTS = 32
# Everything else. Of these the newest stay: no flood keeps a new head from being heard.
WORDS = 64
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
        self._ask_topic = topics.ASKS.of(device)
        self.topics = [topic.of(device) for topic in topics.GALLERY]
        self._body_topic = topics.BODY.of(device)
        self._words: deque[Letter] = deque()
        self._parts: deque[Letter] = deque()
        self._arrived = threading.Condition()
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
        letter = Letter(self.connection, topic, payload)
        with self._arrived:
            if topic == self._body_topic and len(self._parts) >= PARTS:
                self.dropped += 1
            elif topic == self._body_topic:
                self._parts.append(letter)
            else:
                self._words.append(letter)
                if len(self._words) > WORDS:
                    self._words.popleft()
                    self.dropped += 1
            self._arrived.notify()

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
        """The next message of the connection that is up, None if there is none in time.

        What is said about galleries comes before their bodies: it may make them needless.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._words or self._parts, timeout=seconds)
            if not (self._words or self._parts):
                return None
            letter = (self._words or self._parts).popleft()
        return letter if self.up and letter.connection == self.connection else None

    def put(self, connection: int, payload: bytes) -> None:
        """Send *payload* to the city if *connection* is still up. Lost when nothing is sent."""
        try:
            self._outbox.put_nowait(Letter(connection, self._ask_topic, payload))
        except queue.Full:
            self.dropped += 1
