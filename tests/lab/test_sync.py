"""``kaopass lab sync`` drains a real journal through the real line and says how fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.lab.sync import command

pytestmark = pytest.mark.broker


def test_a_backlog_is_drained_over_tls_and_every_figure_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--folder", str(tmp_path), "--events", "1000", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output.splitlines()[-1])
    (drain,) = found["drains"]
    assert (drain["database"], drain["events"]) == ("sqlite", 1_000)
    assert min(drain["per_second"], found["bare_sqlite_per_second"]) > 0
    assert 32 < drain["bytes_per_event"] < 500  # 32 bytes of pseudonym cannot be compressed away
    assert 0 < drain["ack_p50_ms"] <= drain["ack_p99_ms"]
    assert list(tmp_path.iterdir()) == []
