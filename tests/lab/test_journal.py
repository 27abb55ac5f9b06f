"""The journal's benchmark measures what it says, says it for both readers, and leaves nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.main import kaopass
from agent.lab.journal import compare_appends, measure_size

SMALL = ("--events", "40", "--days", "2", "--per-day", "100")


def test_both_sides_are_timed_over_the_same_disk(tmp_path: Path) -> None:
    seen: list[float] = []
    ours, bare = compare_appends(tmp_path, 40, lambda _, done: seen.append(done))
    for side in (ours, bare):
        assert side.per_second > 0
        assert 0 < side.p50_ms <= side.p99_ms
    assert seen == sorted(seen)
    assert len(seen) > 5


def test_the_size_is_that_of_all_files_and_grows_with_the_events(tmp_path: Path) -> None:
    sizes = []
    for events in (200, 800):
        folder = tmp_path / str(events)
        folder.mkdir()
        size = measure_size(folder, events, lambda *_: None)
        assert size.bytes_per_event * events == pytest.approx(size.disk_bytes)
        sizes.append(size.disk_bytes)
    assert sizes[1] > sizes[0] > 200 * 100


def test_json_holds_rates_ratios_and_the_size(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        kaopass, ["lab", "journal", "--folder", str(tmp_path), *SMALL, "--json"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    ratio = found["journal"]["per_second"] / found["bare_sqlite"]["per_second"]
    assert abs(found["ratio"]["per_second"] - ratio) < 0.01
    assert found["offline"]["events"] == 200
    assert found["offline"]["limit_bytes"] == 512 * 2**20
    assert list(tmp_path.iterdir()) == []


def test_a_person_gets_a_table_and_a_verdict(tmp_path: Path) -> None:
    result = CliRunner().invoke(kaopass, ["lab", "journal", "--folder", str(tmp_path), *SMALL])
    assert result.exit_code == 0, result.output
    assert "journal / bare" in result.stdout
    assert "a door needs 50 a second" in result.stdout
    assert "2 days offline at 100 events a day" in result.stdout
