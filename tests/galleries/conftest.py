"""A town with residents for the tests of galleries, on either database, without a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent.base.values import PURPOSES, Message, Vector
from agent.cityos.db.database import committing, open_engine
from agent.cityos.galleries.library import Library
from agent.cityos.galleries.publishing import Published, Publisher
from agent.cityos.galleries.serving import GalleryHandler
from agent.cityos.keys.audit import audit_log
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.ca import Authority
from agent.cityos.pki.claims import Issued, Registry
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.profiles import Given
from agent.cityos.residents.residents import Newcomer, Residents
from agent.cityos.service.chores import AutoPublish, Tidy
from agent.cityos.usecases import consents as consents_of
from agent.cityos.usecases import galleries
from agent.cityos.usecases.city import OpenCity
from agent.cityos.usecases.office import CityPlaces, Office
from agent.hw.keystores.file import FileKeySource
from agent.keys.certificates import new_key
from agent.notices.texts import load_notices
from agent.protocol.galleries.messages import Head, sign_head
from agent.protocol.signed import Signer, Trust
from tests.galleries.device import Device
from tests.vectors import unit

NOTICES = load_notices("test town")
VALUES = 64
PACK = "test-pack"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def noting() -> None:
    """No audit in this test."""


def faces(count: int, seed: int, values: int = VALUES) -> Vector:
    """Plain embeddings of one person, float32 (count, values), length 1."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal(values)
    return unit(middle + 0.1 * rng.standard_normal((count, values)))


def consents(*purposes: str, at_ms: int | None = None) -> tuple[Given, ...]:
    at = now_ms() if at_ms is None else at_ms
    return tuple(Given(NOTICES[purpose, "ja"].consent(at), at) for purpose in purposes)


class City:
    """Everything of the city side about galleries, and devices that ask it."""

    def __init__(self, folder: Path, database: str, authority: Authority | None = None) -> None:
        self.folder = folder
        self.database = database
        self.authority = authority or Authority.create(folder / "ca", "test town")
        self.registry = Registry(self.authority.directory)
        self.trust = Trust(self.authority.certificates_pem())
        self.open()

    def open(self) -> None:
        self.engine = open_engine(self.database, create=True)
        folder = self.folder / "keys"
        self.keys = TownKeys(folder, FileKeySource(folder))
        self.residents = Residents(self.engine, self.keys)
        self.eraser = Eraser(self.residents)
        self.publisher = Publisher(self.engine, self.residents, self.trust)
        self.library = Library(self.engine, self.keys)
        places = CityPlaces(self.authority.directory, folder, self.database)
        audit = audit_log(self.authority.directory)
        self.office = Office(places, self.authority, self.registry, audit, "clerk")
        self.parts = OpenCity(
            *(self.office, self.engine, self.residents),
            *(self.eraser, self.publisher, self.sign),
        )
        self.handler = self.worker()

    def worker(self, *, chores: bool = False) -> GalleryHandler:
        auto, tidy = AutoPublish(self.parts), Tidy(self.parts)
        return GalleryHandler(
            self.engine,
            self.library,
            self.keys,
            self.registry,
            self.trust,
            self.authority.signer("command"),
            chores=(auto, tidy) if chores else (),
            announce_seconds=0.0,
        )

    def close(self) -> None:
        self.engine.dispose()
        self.keys.close()

    def sign(self, head: Head) -> bytes:
        return sign_head(head, self.authority.signer("gallery"))

    def enrol(self, ids: Iterable[str], *purposes: str, nickname: str = "", count: int = 2) -> None:
        newcomers = [
            Newcomer(
                person,
                nickname,
                {PACK: self.residents.own.apply(faces(count, seed_of(person)))},
                consents(*(purposes or PURPOSES)),
            )
            for person in ids
        ]
        self.add(newcomers)

    def add(self, newcomers: Sequence[Newcomer]) -> None:
        """Without looking at faces: quick for a whole town."""
        with committing(self.engine, "test") as db:
            self.residents.add(db, newcomers, now_ms())

    def publish(
        self,
        gallery: str = "bus",
        *,
        at_ms: int | None = None,
        sign: Callable[[Head], bytes] | None = None,
    ) -> Published | None:
        parts = replace(self.parts, signer=sign or self.sign)
        made = galleries.publish(parts, [gallery], at_ms or now_ms()).published
        return made[0] if made else None

    def prepare(self, *, force: bool = False) -> Published | None:
        return galleries.prepare(self.parts, "bus", now_ms(), force=force, valid_days=30.0)

    def finish(self, signed: bytes) -> Head:
        return galleries.finish(self.parts, signed, now_ms())

    def consent(self, person: str, *purposes: str) -> None:
        consents_of.give(self.parts, person, consents(*purposes), now_ms())

    def erase(self, person: str) -> str:
        """Without bringing copies of the keys up to date."""
        return self.eraser.erase(person, now_ms(), noting)

    def withdraw(self, person: str, purpose: str, at_ms: int) -> None:
        consents_of.withdraw(self.parts, person, [purpose], at_ms)

    def device(self, name: str, gallery: str = "bus", use_deltas: bool = True) -> Device:
        key = new_key()
        public = load_pem_private_key(key, None).public_key()
        certificate = self.authority.sign_device(public, name, f"serial-{name}")  # type: ignore[arg-type]
        pem = certificate.public_bytes(Encoding.PEM)
        issued = Issued(f"{certificate.serial_number:x}", pem.decode(), now_ms() + 10**9)
        serial = f"serial-{name}"
        claim = self.registry.claim(name, serial, 1.0, now_ms(), noting, purpose=gallery)
        used = self.registry.use(claim, name, serial, name, now_ms(), lambda: issued)
        assert isinstance(used, Issued)
        return Device(name, gallery, Signer(pem, key), self.trust, now_ms(), use_deltas)

    def announce(self) -> list[Message]:
        """Let the city tell what it has to tell by itself."""
        self.handler.turn()
        return self.handler.due(now_ms())

    def talk(self, *devices: Device, greet: bool = True) -> list[Message]:
        """Devices say hello and everything that follows from it happens; what the city sent."""
        sent: list[Message] = []
        for device in devices:
            if greet:
                device.hello()
        for _ in range(2000):
            asks = [message for device in devices for message in device.out]
            for device in devices:
                device.out = []
            self.handler.take(asks, now_ms())
            self.handler.turn()
            answers = self.handler.due(now_ms())
            if not asks and not answers:
                return sent
            sent += answers
            for answer in answers:
                for device in devices:
                    if answer.topic.startswith(f"kp1/{device.name}/"):
                        device.receive(answer)
        pytest.fail("devices and city never come to an end")


def seed_of(person: str) -> int:
    return sum(person.encode()) * 1009 + len(person)


@pytest.fixture(params=["sqlite", "postgresql"])
def city(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[City]:
    """A town on an empty database, once of each kind."""
    if request.param == "sqlite":
        database = str(tmp_path / "city.db")
    else:
        database = request.getfixturevalue("postgres_database")
    found = City(tmp_path, database)
    yield found
    found.close()
    found.registry.close()


@pytest.fixture
def sqlite_city(tmp_path: Path) -> Iterator[City]:
    found = City(tmp_path, str(tmp_path / "city.db"))
    yield found
    found.close()
    found.registry.close()


Talk = Callable[..., list[Message]]
