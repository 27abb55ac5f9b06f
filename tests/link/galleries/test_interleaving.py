"""Whatever happens to messages, the gallery is one whole signed version, never an older one.

Lost, repeated, out of order, cut short, altered, kept and sent again much later, the device
started again in between: in the end, when messages get through, it is the newest version.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.gallery.gallery import Gallery
from agent.protocol import topics
from agent.protocol.galleries.records import key_of
from agent.protocol.signed import Signer
from tests.faults.disks.trace import memory_folder
from tests.link.galleries.scripted.city import ScriptedCity, rows
from tests.link.galleries.scripted.device import NAME, Device
from tests.protocol.town import Town

pytestmark = pytest.mark.slow

PEOPLE = [f"r-{n}" for n in range(12)]
EXAMPLES = int(os.environ.get("KAOPASS_TEST_INTERLEAVINGS", "60"))

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), st.integers(0, 50)),
        st.tuples(st.just("deliver"), st.integers(0, 50)),
        st.tuples(st.just("deliver all"), st.just(0)),
        st.tuples(st.just("drop"), st.integers(0, 50)),
        st.tuples(st.just("repeat"), st.integers(0, 50)),
        st.tuples(st.just("cut"), st.integers(0, 10_000)),
        st.tuples(st.just("alter"), st.integers(0, 10_000)),
        st.tuples(st.just("publish"), st.integers(0, 1_000)),
        st.tuples(st.just("rekey"), st.just(0)),
        st.tuples(st.just("deltas end"), st.just(0)),
        st.tuples(st.just("enrol"), st.integers(0, 1_000)),
        st.tuples(st.just("revoke"), st.integers(0, 1_000)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("reconnect"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(500, 120_000)),
    ),
    max_size=60,
)


@pytest.fixture(scope="module")
def signer(town: Town) -> Signer:
    return town.device(NAME)


class Wire:
    """Messages on their way to the device, to be meddled with."""

    def __init__(self, folder: Path, town: Town, signer: Signer) -> None:
        self.town = town
        self.city = ScriptedCity(town, part_bytes=700)
        self.city.publish({name: self.record(name, 0) for name in PEOPLE})
        self.device = Device(folder, town.trust, signer)
        self.device.intake.connected(0)
        self.way: list[tuple[str, bytes]] = [(topics.HEAD.of(NAME), self.city.newest.message)]
        self.past: list[tuple[str, bytes]] = []
        self.signed = {(0, ""): set[bytes]()}
        self.enrolled: set[str] = set()
        self.revoked: set[str] = set()
        self.last = 0
        self.note()

    def record(self, name: str, change: int) -> bytes:
        return self.city.record(name, rows(int(name[2:]) + change, values=8))

    def note(self) -> None:
        head = self.city.newest.head
        self.signed[head.version, head.root] = set(self.city.residents)

    def pump(self) -> None:
        """What the device said goes to the city, and its answers on their way."""
        asked, self.device.sent = self.device.sent, []
        for message in asked:
            self.way += self.city.answer(NAME, message)

    def give(self, topic: str, payload: bytes) -> None:
        self.past.append((topic, payload))
        self.device.give(topic, payload)

    def step(self, what: str, number: int) -> None:
        self.pump()
        if what == "publish":
            name = PEOPLE[number % len(PEOPLE)]
            if number % 3:
                self.city.publish({name: self.record(name, number)})
            else:
                self.city.publish(gone=[name])
            self.note()
            self.way.append((topics.HEAD.of(NAME), self.city.newest.message))
        elif what in ("rekey", "deltas end"):
            self.at_the_city(what)
        elif what in ("enrol", "revoke"):
            self.at_the_device(what, PEOPLE[number % 3 * 3], number)  # who also leave at the city
        elif what == "restart":
            self.device.restart()
            self.device.intake.connected(self.device.now_ms)
        elif what == "reconnect":
            self.device.intake.disconnected()
            self.device.intake.connected(self.device.now_ms)
        elif what == "wait":
            self.device.pass_time(number)
        elif what == "repeat" and self.past:
            self.device.give(*self.past[number % len(self.past)])
        elif what == "deliver all":
            for message in self.way:
                self.give(*message)
            self.way.clear()
        elif self.way:
            self.meddle(what, number, *self.way.pop(number % len(self.way)))

    def at_the_city(self, what: str) -> None:
        """The next version is under another key, or no deltas lead to it."""
        if what == "rekey":
            self.city.rekey()
        else:
            self.city.floor = self.city.newest.head.version + 1

    def at_the_device(self, what: str, name: str, number: int) -> None:
        """Somebody is enrolled here, whoever the city has under that id, or erased here."""
        with Gallery(self.device.path, self.device.ring, "p") as gallery:
            if what == "revoke":
                gallery.revoke(name)
                self.enrolled.discard(name)
                self.revoked.add(name)
            else:
                mapped = gallery.protection.apply(rows(number, values=8))
                gallery.enroll(name, mapped, now_ms=1, provisional=True)
                self.enrolled.add(name)
        self.device.intake.refresh(self.device.now_ms)

    def meddle(self, what: str, number: int, topic: str, payload: bytes) -> None:
        """One message arrives, more or less; with "drop" not at all."""
        if what == "deliver":
            self.give(topic, payload)
        elif what == "cut":
            self.device.give(topic, payload[: number % len(payload)])
        elif what == "alter":
            spot = number % len(payload)
            flipped = bytes([payload[spot] ^ (1 << number % 8)])
            self.device.give(topic, payload[:spot] + flipped + payload[spot + 1 :])

    def check(self) -> None:
        version = self.device.version
        assert version in self.signed
        assert version[0] >= self.last
        self.last = version[0]
        people = {key_of(name) for name in self.device.people()}
        signed = self.signed[version]
        assert people <= signed | {key_of(name) for name in self.enrolled}
        assert people >= signed - {key_of(name) for name in self.revoked}
        if version[0]:
            assert self.device.copy.root == version[1]
        assert not self.device.problems


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_the_gallery_is_always_one_whole_signed_version(
    steps: list[tuple[str, int]], town: Town, signer: Signer
) -> None:
    with tempfile.TemporaryDirectory(prefix="kaopass-", dir=memory_folder()) as name:
        wire = Wire(Path(name), town, signer)
        for what, number in steps:
            wire.step(what, number)
            if what not in ("wait", "drop"):
                wire.check()
        # From now on everything gets through.
        wire.device.intake.disconnected()
        wire.device.intake.connected(wire.device.now_ms)
        wire.way = [(topics.HEAD.of(NAME), wire.city.newest.message)]
        for _ in range(200):
            wire.step("deliver all", 0)
            wire.device.pass_time(700)
        head = wire.city.newest.head
        if head.key == wire.city.keys.key:  # else a new key was made and nothing published with it
            assert wire.device.version == (head.version, head.root)
        wire.check()
        wire.device.store.close()
