"""``kaopass status`` as people and programs call it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.base.errors import StatusError
from agent.base.values import Health
from agent.cli.door.status import command
from agent.device.statussocket import StatusSocket

WELL = Health("ready", (), {"frames": 3}, {"journal": {"pending": 2, "last_seq": 7}})
ILL = Health("ready", ("lamps: no GPIO chip",), {"frames": 3}, {})


@contextmanager
def agent(folder: Path, health: Health) -> Iterator[Path]:
    path = folder / "status.sock"
    served = StatusSocket(path, lambda: health)
    served.open()
    try:
        yield path
    finally:
        served.close()


def test_a_healthy_agent_is_a_table_and_exit_code_0(tmp_path: Path) -> None:
    with agent(tmp_path, WELL) as path:
        result = CliRunner().invoke(command, ["--socket", str(path)])
    assert result.exit_code == 0
    assert "pending 2, last_seq 7" in result.output
    assert result.output.endswith("no alarms\n")


def test_what_is_empty_is_a_dash(tmp_path: Path) -> None:
    bare = Health("ready", (), {}, {"sync": {"refused": "", "dropped": 0}, "reason": "", "x": {}})
    with agent(tmp_path, bare) as path:
        lines = CliRunner().invoke(command, ["--socket", str(path)]).output.splitlines()
    assert lines[1:4] == ["sync    refused -, dropped 0", "reason  -", "x       -"]


def test_alarms_come_first_with_exit_code_1(tmp_path: Path) -> None:
    with agent(tmp_path, ILL) as path:
        result = CliRunner().invoke(command, ["--socket", str(path)])
    assert result.exit_code == 1
    assert result.output.splitlines()[0] == "ALARM  lamps: no GPIO chip"
    assert "no alarms" not in result.output


@pytest.mark.parametrize(("health", "code"), [(WELL, 0), (ILL, 1)])
def test_json_is_one_object_with_the_same_exit_code(
    tmp_path: Path, health: Health, code: int
) -> None:
    with agent(tmp_path, health) as path:
        result = CliRunner().invoke(command, ["--socket", str(path), "--json"])
    assert result.exit_code == code
    answer = json.loads(result.output)
    assert answer["running"] is True
    assert answer["alarms"] == list(health.alarms)


def test_no_agent_is_exit_code_1_and_says_how_to_start_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(tmp_path / "status.sock")])
    assert isinstance(result.exception, StatusError)
    assert result.exception.exit_code == 1
    assert "start it with" in str(result.exception)


def test_no_agent_is_said_in_json_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(tmp_path / "status.sock"), "--json"])
    assert result.exit_code == 1
    answer = json.loads(result.output)
    assert answer["running"] is False
    assert "no agent is running" in answer["error"]


def test_the_socket_is_found_through_the_settings(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[state]\nsocket = "{tmp_path}/status.sock"\n')
    with agent(tmp_path, WELL):
        result = CliRunner().invoke(command, ["--settings", str(settings), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.output)["state"] == "ready"


def test_rejected_views_and_people_are_tables_by_reason(tmp_path: Path) -> None:
    counters = {
        "frames": 900,
        "faces": 200,
        "faces_blurred": 20,
        "faces_too_small": 100,
        "rejected_too_few_views": 3,
    }
    with agent(tmp_path, Health("ready", (), counters, {})) as path:
        lines = CliRunner().invoke(command, ["--socket", str(path)]).output.splitlines()
    small = lines.index(f"  {'too small':<24}{100:>9}   50%")
    assert lines[small + 1].split() == ["blurred", "20", "10%"]
    assert any(line.split() == ["too", "few", "views", "3", "100%"] for line in lines)
    assert not any(line.startswith("faces too small") for line in lines), "told once only"
