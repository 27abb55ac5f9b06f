"""An MQTT broker in memory, and links to it that behave as those of a real one do."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from agent.base.errors import LinkError
from agent.base.values import LinkDown, LinkEvent, LinkUp, Message


class MemoryBroker:
    """Hands each message to all who listen, keeps retained ones, and publishes wills.

    Like a broker without a database it forgets what is retained when it stops.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        # All below is guarded by the condition.
        self._running = True
        self._links: dict[str, MemoryLink] = {}
        self._retained: dict[str, bytes] = {}

    def link(
        self, client_id: str, subscriptions: Sequence[str] = (), will: Message | None = None
    ) -> MemoryLink:
        """A link of *client_id*, not opened yet."""
        return MemoryLink(self, client_id, subscriptions, will)

    def stop(self) -> None:
        """All connections are lost, and no new one comes about until ``start()``."""
        with self.changed:
            self._running = False
            self._retained.clear()
            for link in list(self._links.values()):
                self.drop(link, "connection lost", will=False)

    def start(self) -> None:
        """Take connections again."""
        with self.changed:
            self._running = True

    def accept(self, link: MemoryLink) -> list[LinkEvent]:
        """What a new connection hears at first. One of the same name is ended by it."""
        with self.changed:
            if not self._running:
                return [LinkDown("broker in memory: cannot connect: it is stopped")]
            former = self._links.get(link.client_id)
            if former is not None:
                self.drop(former, "broker ended the connection: session taken over")
            self._links[link.client_id] = link
            kept = [Message(topic, kept, True) for topic, kept in self._retained.items()]
            return [LinkUp(), *(message for message in kept if link.listens_to(message.topic))]

    def drop(self, link: MemoryLink, reason: str, *, will: bool = True) -> None:
        """End the connection of *link*, which did not say goodbye."""
        with self.changed:
            if self._links.get(link.client_id) is not link:
                return
            del self._links[link.client_id]
            link.hear(LinkDown(f"broker in memory: {reason}"))
            if will and link.will is not None:
                self.spread(link.will.topic, link.will.payload, retain=True)

    def goodbye(self, link: MemoryLink) -> None:
        """*link* ends of its own will."""
        with self.changed:
            if self._links.get(link.client_id) is link:
                del self._links[link.client_id]

    def holds(self, link: MemoryLink) -> bool:
        """Whether *link* is connected."""
        with self.changed:
            return self._links.get(link.client_id) is link

    def spread(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Hand a message to all who listen; an empty retained one is forgotten, as MQTT says."""
        with self.changed:
            if retain:
                self._retained.pop(topic, None)
                if payload:
                    self._retained[topic] = payload
            for link in list(self._links.values()):
                if link.listens_to(topic):
                    link.hear(Message(topic, payload))


class MemoryLink:
    """A ``ports.Link`` to a ``MemoryBroker``."""

    def __init__(
        self,
        broker: MemoryBroker,
        client_id: str,
        subscriptions: Sequence[str] = (),
        will: Message | None = None,
    ) -> None:
        self.client_id = client_id
        self.will = will
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._events: list[LinkEvent] = []
        self._unanswered = 0

    def open(self) -> None:
        """Connect. A broker that is stopped is a LinkDown of the next turn."""
        with self._broker.changed:
            self._broker.goodbye(self)
            self._unanswered = 0
            self._events = self._broker.accept(self)

    def turn(self, seconds: float) -> list[LinkEvent]:
        """What happened, as soon as anything did; the broker takes over what was published."""
        with self._broker.changed:
            self._unanswered = 0
            self._broker.changed.wait_for(lambda: bool(self._events), seconds)
            events, self._events = self._events, []
            return events

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send with QoS 1. Raises LinkError when not connected."""
        with self._broker.changed:
            if not self._broker.holds(self):
                raise LinkError("broker in memory: not connected, so nothing can be sent")
            self._unanswered += 1
            self._broker.spread(topic, payload, retain=retain)

    @property
    def unanswered(self) -> int:
        return self._unanswered

    def close(self) -> None:
        """Say goodbye; safe to call twice."""
        self._broker.goodbye(self)

    def vanish(self) -> None:
        """Lose the connection, as when the cable is cut."""
        self._broker.drop(self, "connection lost")

    def hear(self, event: LinkEvent) -> None:
        """The broker's side: *event* is what the next turn tells."""
        self._events.append(event)
        self._broker.changed.notify_all()

    def listens_to(self, topic: str) -> bool:
        """Whether one of its subscriptions covers *topic*."""
        return any(covers(each, topic) for each in self._subscriptions)


def covers(pattern: str, topic: str) -> bool:
    """Whether a subscription to *pattern*, with + and # in it, covers *topic* (MQTT 5, 4.7)."""
    wanted, given = pattern.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
    return len(wanted) == len(given) and all(
        level in ("+", part) for level, part in zip(wanted, given, strict=True)
    )
