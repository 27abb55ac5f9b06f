"""A short run of the fuzz campaign, what the long ones found, and proof that it can fail."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import Tally, attack
from tests.fuzz.target import REFUSED, TAKEN, Target, corpus_of
from tests.fuzz.targets import all_targets

MESSAGES = 150  # to each target
SLOW = {"device: gallery file": 10}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    logging.disable(logging.CRITICAL)
    found = {target.name: target for target in all_targets(tmp_path_factory.mktemp("fuzz"))}
    yield found
    for target in found.values():
        target.close()
    logging.disable(logging.NOTSET)


# Written down: to build them takes keys and files, which collecting the tests should not.
NAMES = [
    *("device: acks", "device: heads", "device: freshness", "device: keys", "device: commands"),
    *("device: settings", "city: hellos", "city: wants", "device: parts", "device: sealed bodies"),
    *("device: opened bodies", "device: records", "city: enrolments", "city: results"),
    *("city: reports", "device: gallery", "city: events and births", "city: EST"),
    *("device: settings file", "device: gallery file"),
]


def test_every_way_in_is_attacked(targets: dict[str, Target]) -> None:
    assert list(targets) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_spoilt_messages_break_nothing_and_change_nothing(
    targets: dict[str, Target], name: str
) -> None:
    tally = Tally()
    attack(targets[name], 20261125, 0, SLOW.get(name, MESSAGES), tally)
    assert not tally.defects
    assert tally.refused, "nothing was refused: is it spoilt at all?"


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_once_reached_new_code_still_break_nothing(
    targets: dict[str, Target], name: str
) -> None:
    folder = corpus_of(name)
    inputs = sorted(folder.iterdir()) if folder.exists() else []
    for content in [*(file.read_bytes() for file in inputs), *targets[name].seeds()]:
        targets[name].guided(content)


class _Weak(Target):
    """Breaks on one byte, and lets a refused message change it."""

    name = "weak"

    def __init__(self) -> None:
        self._count = 0

    def spoilt(self, chance: random.Random) -> bytes:
        return chance.randbytes(1)

    def feed(self, message: bytes) -> str:
        if message == b"\x07":
            raise KeyError("seven")
        if message == b"\x08":
            self._count += 1
            return REFUSED
        return TAKEN if message < b"\x80" else REFUSED

    def state(self) -> object:
        return self._count


def test_the_campaign_finds_a_crash_and_a_change_of_state() -> None:
    tally = Tally()
    attack(_Weak(), 1, 0, 3_000, tally)
    assert any("KeyError" in defect for defect in tally.defects)
    assert any("changed the state" in defect for defect in tally.defects)
    assert tally.messages == 3_000


def test_a_finding_is_repeated_by_its_seed() -> None:
    first, second = Tally(), Tally()
    attack(_Weak(), 5, 0, 2_000, first)
    attack(_Weak(), 5, 0, 2_000, second)
    assert first.defects == second.defects != []
