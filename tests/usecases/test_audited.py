"""Everything one can ask of a device that changes it is in the audit log, before it is done."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import usecases
from agent.base.audit import entries
from agent.base.errors import AuditError, KaopassError
from tests.usecases.acts import ACTS, Door, copied, directory_at, looked_at


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    found = Door(tmp_path)
    yield found
    found.release()


def test_every_use_case_that_is_noted_is_among_the_acts() -> None:
    found = set()
    for module in pkgutil.iter_modules(usecases.__path__):
        for name, function in vars(
            importlib.import_module(f"agent.usecases.{module.name}")
        ).items():
            own = inspect.isfunction(function) and function.__module__.endswith(f".{module.name}")
            if own and not name.startswith("_"):
                asked = inspect.signature(function).parameters
                if "audit" in asked or "actor" in asked:
                    found.add(f"{module.name}.{name}")
    assert found == set(ACTS)


@pytest.mark.parametrize("name", ACTS)
def test_what_cannot_be_noted_is_not_done(door: Door, name: str) -> None:
    before = looked_at(door.state)
    directory_at("audit.jsonl")(door)
    with pytest.raises(AuditError, match="nothing is done that cannot be noted"):
        ACTS[name].run(door)
    assert looked_at(door.state) == before


@pytest.mark.parametrize("name", [name for name in ACTS if ACTS[name].spoil])
def test_what_fails_after_its_entry_is_said_to_have_failed(door: Door, name: str) -> None:
    act = ACTS[name]
    door.audit.after = lambda: act.spoil and act.spoil(door)
    with pytest.raises(KaopassError):
        act.run(door)
    noted, failed = entries(door.audit_file)
    assert failed.action == "act.failed"
    assert (failed.facts["entry"], failed.facts["what"]) == (noted.seq, noted.action)
    assert failed.actor == noted.actor


@pytest.mark.parametrize("name", [name for name in ACTS if name != "rotation.rotate"])
def test_whenever_it_is_killed_nothing_is_done_that_is_not_noted(
    door: Door, name: str, tmp_path: Path
) -> None:
    """Until its entry is written the disk is as it was; afterwards there is the entry."""
    before = looked_at(door.state)
    door.audit.before = lambda: copied(door, tmp_path / "killed")
    ACTS[name].run(door)
    door.out.flush()
    assert looked_at(tmp_path / "killed") == before
    assert looked_at(door.state) != before
    assert len(list(entries(door.audit_file))) == 1
