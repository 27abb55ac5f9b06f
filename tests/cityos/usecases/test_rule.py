"""The one rule of all use cases: every check, then the entry on the disk, then the change.

Each is asked three times of one city: while the log cannot be written, with the power going the
moment its entry is on the disk, and as it should be.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import event

from agent.base.audit import AuditLog, entries
from agent.base.errors import AuditError, CityError
from agent.cityos import usecases
from agent.cityos.pki.ca import Authority
from agent.cityos.usecases import authority
from tests.cityos.usecases.world import ASKED, World, go_on
from tests.galleries.conftest import City, city

__all__ = ["city"]  # a fixture

KEY = b"k" * 32


class PowerCut(BaseException):
    """The power goes."""


def go() -> None:
    raise PowerCut


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a city, to be copied."""
    folder = tmp_path_factory.mktemp("city")
    world = World(folder, str(folder / "city.db"), AuditLog(folder / "audit.jsonl", KEY))
    world.fill()
    world.close()
    return folder


@pytest.fixture
def folder(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "city"))


def ask(name: str, folder: Path, log: AuditLog, cut: Callable[[], object] = go_on) -> None:
    """Ask for *name*; nothing of what is in force changes unless it comes to its end."""
    world = World(folder, str(folder / "city.db"), log, cut)
    before = world.written()
    try:
        ASKED[name].ask(world)
        changed = world.written() != before
        assert changed == ASKED[name].changes
    except BaseException:
        assert world.written() == before
        raise
    finally:
        world.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ASKED)
def test_the_entry_comes_after_the_checks_and_before_the_change(name: str, folder: Path) -> None:
    asked, path = ASKED[name], folder / "audit.jsonl"
    world = World(folder, str(folder / "city.db"), AuditLog(path, KEY))
    asked.before(world)
    world.close()
    with pytest.raises(AuditError, match="cannot be written"):
        ask(name, folder, AuditLog(folder / "bus.pem" / "audit.jsonl", KEY))
    earlier = len(list(entries(path)))
    with pytest.raises(PowerCut):
        ask(name, folder, AuditLog(path, KEY), go)
    noted, failed = list(entries(path))[earlier:]
    assert (noted.action, failed.action) == (asked.action, "act.failed")
    assert failed.facts == {"entry": noted.seq, "what": noted.action, "error": "PowerCut"}
    assert failed.subject == noted.subject
    ask(name, folder, AuditLog(path, KEY))
    done = [each.action for each in entries(path)][earlier + 2 :]
    assert done[0] == asked.action
    assert "act.failed" not in done


def killed(name: str, folder: Path, database: str, path: Path) -> None:
    ASKED[name].ask(World(folder, database, AuditLog(path, KEY), die))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enrol", "erase", "publish", "revoke", "settings"])
def test_what_was_noted_by_a_process_that_was_killed_then_is_not_done(
    name: str, city: City
) -> None:
    path = city.folder / "audit.jsonl"
    world = World(city.folder, city.database, AuditLog(path, KEY))
    world.fill()
    ASKED[name].before(world)
    before = world.written()
    process = multiprocessing.get_context("spawn").Process(
        target=killed, args=(name, city.folder, city.database, path)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert world.written() == before
    assert [each.action for each in entries(path)][-1] == ASKED[name].action
    ASKED[name].ask(world)  # and nothing is held that the dead one held
    assert world.written() != before
    world.close()


def test_a_commit_that_fails_is_noted_as_failed(city: City) -> None:
    """As the disk is full, or the server gone."""
    path = city.folder / "audit.jsonl"
    world = World(city.folder, city.database, AuditLog(path, KEY))
    world.fill()
    before = world.written()

    def full(_db: object) -> None:
        raise CityError("no space left")

    event.listen(world.city.engine, "commit", full)
    with pytest.raises(CityError, match="no space left"):
        ASKED["enrol"].ask(world)
    event.remove(world.city.engine, "commit", full)
    after = world.written()
    assert before.pop("keys.db") != after.pop("keys.db")  # a key that opens nothing is left over
    assert after == before
    noted, failed = list(entries(path))[-2:]
    assert (noted.action, failed.action) == ("resident.enrolled", "act.failed")
    assert failed.facts["error"] == "CityError"
    ASKED["enrol"].ask(world)
    world.close()


def test_no_use_case_is_left_out_here() -> None:
    sources = Path(usecases.__file__).parent.glob("*.py")
    words = re.findall(r'"([a-z]+\.[a-z_]+)"', "".join(each.read_text() for each in sources))
    actions = {word for word in words if not word.endswith((".pem", ".key", ".db", ".lock"))}
    assert actions == {each.action for each in ASKED.values()} | {"authority.made"}


def test_an_authority_begins_with_its_entry_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(AuditError):
        Authority.create(tmp_path / "none", "Izumi", refuse)
    assert list(tmp_path.iterdir()) == []
    fingerprint = authority.make_authority(tmp_path / "ca", "Izumi", "clerk")
    (entry,) = entries(tmp_path / "ca" / "audit.jsonl")
    assert (entry.action, entry.facts) == ("authority.made", {"fingerprint": fingerprint})


def refuse(*_: object) -> None:
    raise AuditError("the audit log cannot be written")
