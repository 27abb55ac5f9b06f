"""The device's gallery as a target: what a broker, an old recording or a stolen device may send.

A device is on its way from one signed version to the next, in one of four ways, and hears nothing
but spoilt, stale, foreign and forged messages. Forged ones are sealed under the gallery's own
content key, which every device has. After a while the city itself answers again: the device must
then come to the newest version by itself.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

from agent.protocol import topics
from agent.protocol.galleries.messages import sign_head
from agent.protocol.galleries.records import key_of
from agent.protocol.hpke import public_key_of
from tests.fuzz.mutate import spoil_bytes
from tests.fuzz.target import REFUSED, TAKEN, Target
from tests.link.galleries.scripted.city import ScriptedCity, rows
from tests.link.galleries.scripted.device import NAME, Device
from tests.protocol.town import Town

TOPICS = [topic.of(NAME) for topic in topics.GALLERY]
PEOPLE = 12
STAGE_MESSAGES = 200  # between two genuine answers of the city
STAGES = ("delta", "other keys", "buckets", "just started")


class DeviceGallery(Target):
    """All four topics of the gallery, against the state machine with its file."""

    name = "device: gallery"
    share = 6

    def __init__(self, folder: Path, town: Town) -> None:
        home = folder / "downlink"
        home.mkdir()
        self._town = town
        self._city = ScriptedCity(town, part_bytes=600)
        self._others = [town.device(NAME), town.device("bus-8")]
        self._device = Device(home, town.trust, self._others[0])
        self._signed: dict[tuple[int, int, str], set[bytes]] = {}
        self._past: deque[tuple[str, bytes]] = deque(maxlen=60)
        self._now: list[tuple[str, bytes]] = []
        self._foreign: list[tuple[str, bytes]] = []
        self._stages = self._left = self._changes = 0
        self._city.publish({f"r-{n}": self._record(n, n) for n in range(PEOPLE)})
        self._note()
        self._device.intake.connected(0)
        self._catch_up()

    def spoilt(self, chance: random.Random) -> bytes:
        if not self._left:
            if self._stages:
                self._catch_up()
            self._next_stage(chance)
        topic, message = chance.choice(self._now)
        way = chance.randrange(8)
        if way == 0:
            topic = chance.choice([other for other in TOPICS if other != topic])
        elif way == 1 and self._past:
            topic, message = chance.choice(self._past)
        elif way == 2:
            message = message * chance.randrange(2, 200)
        elif way == 3:
            message = message[: chance.randrange(len(message))]
        elif way == 4:  # signed, but by one who may not, or for another device
            topic, message = chance.choice(self._foreign)
        elif way == 5:
            topic, message = TOPICS[3], self._insider(chance)
        else:
            message = spoil_bytes(message, chance)
        return bytes([TOPICS.index(topic)]) + message

    def feed(self, message: bytes) -> str:
        device, before = self._device, self._in_force()
        refused = sum(device.intake.refused.values())
        device.give(TOPICS[message[0]], message[1:])
        device.pass_time(20)
        device.sent.clear()
        assert not device.problems, device.problems
        self._left -= 1
        after = self._in_force()
        if after != before:
            self._changes += 1
        assert after in self._signed, "what is in force was never signed"
        return REFUSED if sum(device.intake.refused.values()) > refused else TAKEN

    def state(self) -> object:
        return self._changes

    def close(self) -> None:
        self._device.store.close()

    def _next_stage(self, chance: random.Random) -> None:
        """The city has a newer version, and the device is on its way to it."""
        city, device = self._city, self._device
        stage = STAGES[self._stages % len(STAGES)]
        self._stages += 1
        self._left = STAGE_MESSAGES
        device.intake.disconnected()
        if stage == "other keys":
            city.rekey()
        elif stage == "buckets":
            city.epoch += 1
            city.versions.clear()
        elif stage == "just started":
            device.restart()
        number = chance.randrange(PEOPLE)
        if f"r-{number}" in city.plain and chance.random() < 0.3:
            city.publish(gone=[f"r-{number}"])
        else:
            city.publish({f"r-{number}": self._record(number, self._stages + 100)})
        self._note()
        self._past.extend(self._now)
        device.sent.clear()
        device.intake.connected(device.now_ms)
        self._now = [answer for hello in device.sent for answer in city.answer(NAME, hello)]
        device.sent.clear()
        head = city.newest.head
        if stage == "buckets":
            bodies = [city.body("index", head.version)]
            touched = {key[0] for key in city.residents}
            bodies += [city.body("bucket", head.version, n) for n in sorted(touched)]
        else:
            bodies = [city.body("delta", head.version)]
        self._now += [(TOPICS[3], part) for parts in bodies for part in parts]
        others_keys = city.wrapped("bus-8", public_key_of(device.ring.receive_key()))
        self._foreign = [(TOPICS[2], others_keys)]
        for signer in (*self._others, self._town.command):
            self._foreign.append((TOPICS[0], sign_head(head, signer)))
        if stage == "just started":
            return
        device.hear(city)
        if stage == "buckets":
            for part in bodies[0]:
                device.give(TOPICS[3], part)

    def _insider(self, chance: random.Random) -> bytes:
        """A part of a body with a spoilt content, sealed as one with the gallery's keys can."""
        head = self._city.newest.head
        kind = chance.choice(["delta", "index", "bucket"])
        number = chance.choice(sorted(self._city.residents))[0] if kind == "bucket" else 0
        parts = self._city.body(
            kind, head.version, number, spoil=lambda content: spoil_bytes(content, chance)
        )
        return parts[0] if len(parts) == 1 else chance.choice(parts)

    def _catch_up(self) -> None:
        """The city answers again; and what is here then is the newest version, whole."""
        device, city = self._device, self._city
        self._left = 0
        device.intake.disconnected()
        device.sent.clear()
        device.intake.connected(device.now_ms)
        device.hear(city)
        newest = city.newest.head
        for _ in range(200):
            device.talk(city)
            if self._in_force() == (newest.epoch, newest.version, newest.root):
                break
            device.pass_time(700)
        else:
            raise AssertionError("the newest version did not come about any more")
        assert device.copy.root == newest.root
        held = {key_of(name) for name in device.people()}
        assert held == self._signed[newest.epoch, newest.version, newest.root]

    def _record(self, number: int, look: int) -> bytes:
        return self._city.record(f"r-{number}", rows(look))

    def _note(self) -> None:
        head = self._city.newest.head
        self._signed[head.epoch, head.version, head.root] = set(self._city.residents)
        while len(self._signed) > 20:
            del self._signed[next(iter(self._signed))]

    def _in_force(self) -> tuple[int, int, str]:
        version = self._device.copy.version
        return (version.epoch, version.version, version.root) if version else (0, 0, "")
