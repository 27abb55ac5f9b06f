"""Who enrols or erases is alone with who is enrolled: two processes at once, on either database."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from agent.base.errors import CityError, UsageError
from agent.base.values import Vector
from agent.cityos.galleries import receipts
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.ca import Authority
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.faces import EnrolledFaces
from agent.cityos.residents.residents import Newcomer
from agent.cityos.usecases.enrolling import enrol, enrol_many
from agent.cityos.usecases.from_devices import settle_waiting
from agent.hw.keystores.file import FileKeySource
from tests.galleries.conftest import (
    PACK,
    City,
    city,
    consents,
    faces,
    noting,
    now_ms,
    seed_of,
)
from tests.galleries.test_enrolling import arrives, threshold

__all__ = ["city"]  # a fixture
pytestmark = pytest.mark.slow

COUNT = 12
SPAWN = multiprocessing.get_context("spawn")
Act = Callable[[City, Barrier], None]


def face(number: int) -> dict[str, Vector]:
    return {PACK: faces(2, seed_of(f"face-{number}"))}


def desk(found: City, start: Barrier) -> None:
    """One after the other, as commands do."""
    start.wait()
    for number in range(COUNT):
        known = EnrolledFaces(found.residents, threshold)
        newcomer = Newcomer(f"desk-{number}", "", face(number), consents("bus"))
        try:
            enrol(found.parts, known, newcomer, now_ms())
        except UsageError as error:
            assert "already under another id" in str(error)  # noqa: PT017 - either may win


def many(found: City, start: Barrier) -> None:
    """A whole folder at a time."""
    start.wait()
    people = [(f"many-{number}", partial(face, number)) for number in range(COUNT)]
    enrol_many(
        found.parts, EnrolledFaces(found.residents, threshold), people, consents("bus"), now_ms
    )


def devices(found: City, start: Barrier) -> None:
    """What came from a device, as the running city side takes it."""
    start.wait()
    assert len(settle_waiting(found.parts, threshold, now_ms())) == COUNT


def eraser(found: City, start: Barrier) -> None:
    """Notes the receipts it was given."""
    start.wait()
    given = []
    for number in range(COUNT):
        try:
            given.append(found.eraser.erase(f"p{number}", now_ms(), noting))
        except CityError as error:
            assert "nobody is enrolled" in str(error)  # noqa: PT017 - the other one was first
    with (found.folder / "receipts").open("a") as out:
        out.write("".join(f"{receipt}\n" for receipt in given))


def opener(found: City, start: Barrier) -> None:
    """Whoever opens a city ends an erasure that a cut left behind; this one is not over."""
    start.wait()
    while list(found.residents.all()):
        Eraser(found.residents)


def run(act: Act, folder: Path, database: str, start: Barrier) -> None:
    found = City(folder, database, Authority(folder / "ca"))
    act(found, start)
    found.close()
    found.registry.close()


def race(city: City, *acts: Act) -> None:
    start = SPAWN.Barrier(len(acts))
    processes = [
        SPAWN.Process(target=run, args=(act, city.folder, city.database, start)) for act in acts
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(acts)


@pytest.mark.parametrize("other", [many, devices], ids=lambda act: act.__name__)
def test_one_face_is_never_enrolled_under_two_ids(city: City, other: Act) -> None:
    if other is devices:
        city.enrol(["p0"])
        city.publish()
        device = city.device("bus-1")
        city.talk(device)
        for number in range(COUNT):
            arrives(city, device, f"device-{number}", number + 1, face=f"face-{number}")
    race(city, desk, other)
    enrolled = [each.profile.id for each in city.residents.all() if each.profile.id != "p0"]
    numbers = sorted(int(person.rpartition("-")[2]) for person in enrolled)
    assert numbers == list(range(COUNT)), enrolled


@pytest.mark.parametrize("other", [eraser, opener], ids=lambda act: act.__name__)
def test_every_receipt_that_was_given_is_found(city: City, other: Act) -> None:
    city.enrol([f"p{number}" for number in range(COUNT)])
    city.publish()
    race(city, eraser, other)
    given = (city.folder / "receipts").read_text().split()
    assert len(given) == COUNT
    with city.engine.connect() as db:
        found = [receipts.erasure(db, receipt, {"bus": []}) for receipt in given]
    assert all(each is not None and each[1] == {"bus": None} for each in found)
    assert list(city.residents.all()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files for others")
def test_what_root_locks_the_service_can_lock(tmp_path: Path) -> None:
    keys = TownKeys(tmp_path / "keys", FileKeySource(tmp_path / "keys"))
    os.chown(keys.directory, 1234, 1235)
    with keys.publishing(), keys.enrolling():
        found = {file.name: (file.stat().st_uid, file.stat().st_gid)
                 for file in keys.directory.glob("*.lock")}  # fmt: skip
    keys.close()
    assert found == {"publish.lock": (1234, 1235), "enrol.lock": (1234, 1235)}
