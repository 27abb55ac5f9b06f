"""The short campaign: a whole town under every kind of fault, and both weaknesses found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.faults.campaign import campaign
from tests.faults.disks.trace import build_library
from tests.faults.drivers.driver import KINDS
from tests.faults.processes import Processes
from tests.faults.round import kinds_of_round, run_round
from tests.seeds import seed

SECONDS = 8.0
GROUPS = ("broker", "net", "city")


def grouped(done: Counter[str], group: str) -> int:
    return sum(count for kind, count in done.items() if kind.startswith(group))


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    folder = tmp_path_factory.mktemp("library")
    with Processes(build_library(folder), folder / "log") as running:
        yield running


@pytest.mark.broker
def test_under_every_kind_of_fault_nothing_is_lost_and_nothing_doubled(
    processes: Processes, tmp_path: Path
) -> None:
    """A failure names the seed that repeats its choices."""
    drawn = seed(20261128)

    def enough(done: Counter[str]) -> bool:
        cut = min(done["sigkill"], done["power_cut"]) >= 10
        return cut and done["events"] > 200 and all(grouped(done, each) >= 5 for each in GROUPS)

    outcome = run_round(tmp_path / "town", processes, drawn, SECONDS, haste=3.0, enough=enough)
    failed = f"scripts/campaign --seed {drawn} --rounds 1"
    assert (outcome.lost, outcome.duplicated, outcome.problems) == ([], [], []), failed
    assert enough(outcome.by_kind + Counter(events=outcome.events))
    assert grouped(outcome.by_kind, "clock") >= 5


@pytest.mark.broker
def test_with_synchronous_normal_power_cuts_lose_events(
    processes: Processes, tmp_path: Path
) -> None:
    outcome = run_round(
        tmp_path / "town",
        processes,
        1,
        3.0,
        kinds=["power_cut"],
        weaken="normal-sync",
        devices=2,
        enough=lambda done: done["power_cut"] >= 12,
    )
    assert outcome.by_kind["power_cut"] >= 12
    assert outcome.lost


@pytest.mark.broker
def test_with_acks_before_the_commit_a_killed_city_side_loses_events(
    processes: Processes, tmp_path: Path
) -> None:
    outcome = run_round(
        tmp_path / "town",
        processes,
        1,
        4.0,
        kinds=["city_before_commit"],
        haste=2.0,
        weaken="ack-before-commit",
        devices=1,
        enough=lambda done: done["city_before_commit"] >= 3,
    )
    assert outcome.by_kind["city_before_commit"] >= 3
    assert outcome.lost


@pytest.mark.broker
@pytest.mark.parametrize("weaken", ["", "keep-nothing"])
def test_a_restored_city_gets_back_what_it_had_acknowledged_after_its_copy(
    processes: Processes, tmp_path: Path, weaken: str
) -> None:
    """And only because devices keep for a while what was acknowledged."""
    outcome = run_round(
        tmp_path / "town",
        processes,
        1,
        3.0,
        kinds=["city_restored", "sigkill"],
        haste=4.0,
        weaken=weaken,
        devices=1,
        enough=lambda done: done["city_restored"] >= 2 and done["undone"] >= 30,
    )
    assert outcome.by_kind["city_restored"] >= 2
    assert bool(outcome.lost) == bool(weaken), outcome.lost[:3]
    assert (outcome.duplicated, outcome.problems) == ([], [])


def test_a_round_restores_the_citys_copy_or_destroys_what_devices_keep() -> None:
    both = {"city_restored", "disk_full", "damaged_page"}
    found = [kinds_of_round(seed, KINDS) & both for seed in range(60)]
    assert {frozenset(kinds) for kinds in found} == {
        frozenset({"city_restored"}),
        frozenset({"disk_full", "damaged_page"}),
    }
    assert kinds_of_round(1, {"city_restored", "sigkill"}) == {"city_restored", "sigkill"}


@pytest.mark.broker
def test_the_command_ends_with_one_line_for_programs_and_says_how_to_repeat_each_round() -> None:
    result = CliRunner().invoke(
        campaign,
        ["--seconds", "4", "--seed", "77", "--devices", "1", "--only", "sigkill,net", "--json"],
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["faults"] == sum(summary["by_kind"].values()) > 0
    assert set(summary["by_kind"]) <= {kind for kind in KINDS if kind[:3] in ("sig", "net")}
    assert (summary["lost"], summary["duplicated"], summary["seeds_failed"]) == (0, 0, [])
    assert summary["events"] > 0
    assert "round seed 77:" in result.stderr


def test_a_kind_that_does_not_exist_is_named() -> None:
    result = CliRunner().invoke(campaign, ["--only", "meteorite"])
    assert result.exit_code == 2
    assert "meteorite" in result.stderr
