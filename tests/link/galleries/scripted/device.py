"""A device's intake without threads or network: messages go in and out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agent.base.errors import GalleryError
from agent.gallery.city.copy import CityCopy
from agent.gallery.file.store import GalleryStore
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing
from agent.link.galleries.fetch import Timing
from agent.link.galleries.intake import Ears, GalleryIntake
from agent.protocol import topics
from agent.protocol.galleries.messages import Hello, Want, sign_hello, sign_want
from agent.protocol.signed import Signer, Trust
from tests.link.galleries.scripted.city import ScriptedCity, wall_ms

NAME = "bus-7"
RING = KeyRing(bytes(range(32)))
TIMING = Timing(check_ms=600_000, ask_ms=1_000)


class Device:
    """One device with its gallery under *folder*; ``now_ms`` is turned by the test."""

    def __init__(
        self,
        folder: Path,
        trust: Trust,
        signer: Signer,
        gallery: str = "bus",
        pack: str = "p",
        ring: KeyRing = RING,
    ) -> None:
        self.ring = ring
        self.path = folder / "gallery.db"
        self.trust, self.signer, self.gallery, self.pack = trust, signer, gallery, pack
        self.now_ms = 0
        self.sent: list[bytes] = []
        self.proofs: list[int] = []
        self.times: list[int] = []
        self.left: set[bytes] = set()
        self.applied = 0
        self.problems: list[str] = []
        self._start()

    def _start(self) -> None:
        self.store = GalleryStore(self.path, self.ring, domain=self.gallery)
        self.copy = CityCopy(self.store, self.gallery)
        self.intake = GalleryIntake(
            NAME,
            self.gallery,
            self.copy,
            trust=self.trust,
            private_key=self.ring.receive_key(),
            send=self._send,
            ears=Ears(self.proofs.append, self.left.update, self._applied, self.times.append),
            timing=TIMING,
        )

    def _applied(self) -> None:
        self.applied += 1

    def _send(self, ask: Hello | Want) -> None:
        if isinstance(ask, Hello):
            self.sent.append(sign_hello(ask, self.signer))
        else:
            self.sent.append(sign_want(ask, self.signer))

    def restart(self) -> None:
        self.store.close()
        self.sent.clear()
        self._start()

    def give(self, topic: str, payload: bytes) -> None:
        """As the worker does it."""
        try:
            self.intake.receive(topic, payload, self.now_ms, wall_ms())
        except GalleryError as error:
            self.problems.append(str(error))
            self.intake.failed(self.now_ms)

    def hear(self, city: ScriptedCity) -> None:
        self.give(topics.HEAD.of(NAME), city.newest.message)

    def talk(
        self,
        city: ScriptedCity,
        through: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]] = list,
        rounds: int = 1_000,
    ) -> None:
        """Let both sides answer each other until nothing is said any more."""
        for _ in range(rounds):
            if not self.sent:
                return
            asked, self.sent = self.sent, []
            answers = [answer for message in asked for answer in city.answer(NAME, message)]
            for topic, payload in through(answers):
                self.give(topic, payload)
        raise AssertionError("they never stop talking")

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.intake.turn(self.now_ms)

    def people(self) -> set[str]:
        with Gallery(self.path, self.ring, self.pack) as gallery:
            return {person.id for person in gallery.people()}

    @property
    def version(self) -> tuple[int, str]:
        found = self.copy.version
        return (found.version, found.root) if found else (0, "")
