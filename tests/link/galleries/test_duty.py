"""Between the sync thread and the gallery's: bounded, and the newest word gets through."""

from __future__ import annotations

from agent.link.galleries.duty import PARTS, WORDS, GalleryDuty
from agent.protocol import topics


def connected() -> tuple[GalleryDuty, list[tuple[str, bytes]]]:
    duty = GalleryDuty("bus-1")
    sent: list[tuple[str, bytes]] = []
    connect(duty, sent)
    return duty, sent


def connect(duty: GalleryDuty, sent: list[tuple[str, bytes]]) -> None:
    def publish(topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert not retain
        sent.append((topic, payload))

    duty.connected(publish)


def test_a_head_is_heard_through_any_flood_of_parts() -> None:
    duty, _ = connected()
    for _ in range(10 * PARTS):
        duty.receive(topics.BODY.of("bus-1"), b"part")
    duty.receive(topics.HEAD.of("bus-1"), b"head")
    first = duty.get(0)
    assert first is not None
    assert first.payload == b"head"
    assert duty.dropped == 9 * PARTS


def test_of_a_flood_of_words_the_newest_stay() -> None:
    duty, _ = connected()
    for number in range(3 * WORDS):
        duty.receive(topics.HEAD.of("bus-1"), b"%d" % number)
    found = [letter.payload for letter in iter(lambda: duty.get(0), None)]
    assert found == [b"%d" % number for number in range(2 * WORDS, 3 * WORDS)]


def test_what_belongs_to_an_earlier_connection_is_neither_heard_nor_sent() -> None:
    duty, sent = connected()
    duty.receive(topics.HEAD.of("bus-1"), b"old")
    duty.put(duty.connection, b"old")
    duty.disconnected()
    assert duty.get(0) is None
    connect(duty, sent)
    duty.put(duty.connection, b"new")
    duty.turn(0)
    assert sent == [(topics.ASKS.of("bus-1"), b"new")]
