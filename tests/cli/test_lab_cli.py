"""``kaopass lab`` is for development: a door is told what it lacks, and old names lead there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.bench.group import COMMANDS as BENCHES
from agent.cli.main import kaopass

SMALL = ("--events", "20", "--days", "1", "--per-day", "20", "--json")


def test_a_benchmark_under_its_former_name_runs_and_says_the_new_one(tmp_path: Path) -> None:
    done = CliRunner().invoke(kaopass, ["bench", "journal", "--folder", str(tmp_path), *SMALL])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bench"] == "journal"
    assert "kaopass lab journal" in done.stderr


def test_the_former_names_are_not_offered_any_more() -> None:
    shown = CliRunner().invoke(kaopass, ["bench", "--help"]).output
    assert [name for name in ("vision", "journal", "sync") if f"  {name} " in shown] == ["vision"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["journal", "sync", "quantize", "golden"])
def test_without_its_extra_the_lab_says_what_to_install(name: str) -> None:
    arguments = ["lab", name, *(["buffalo_s"] if name in ("quantize", "golden") else [])]
    code = (
        "import sys; sys.modules['onnx'] = None; from agent.__main__ import main; "
        f"main({arguments!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "onnx is missing" in done.stderr
    assert "pip install 'kaopass[lab]'" in done.stderr


@pytest.mark.slow
def test_what_a_technician_measures_with_never_reads_the_lab() -> None:
    modules = ", ".join(BENCHES.values())
    code = f"import sys, {modules}; print([m for m in sys.modules if m.startswith('agent.lab')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
