"""``scripts/setup``: one environment, whole or not at all, whatever happened before."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from tests.scripts.shell import Copy, program

# Behaves like an interpreter as far as the script looks: it makes environments holding itself.
PYTHON = r"""
case "$*" in
*ensurepip*) [ -z "${NO_ENSUREPIP:-}" ] ;;
*sys.version\)*) echo "3.11.7 (a stand-in)" ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*" install "*editable*) [ -z "${HOLD:-}" ] || read -r <"$HOLD"; [ -z "${PIP_FAILS:-}" ] ;;
esac
"""
REMEDY = (
    "apt-get install python3-venv" if os.geteuid() == 0 else "sudo apt-get install python3-venv"
)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    copy = Copy(tmp_path, "scripts/setup", "scripts/demo", "pyproject.toml", "constraints.txt")
    program(copy.bin / "python3", PYTHON)
    return copy


def installs(copy: Copy) -> list[str]:
    return [call for call in copy.calls() if " install " in call and "--editable" in call]


def gate_of(hold: Path, reader: subprocess.Popen[bytes]) -> TextIO:
    """*hold*, open for writing, once *reader* has come to read it."""
    while reader.poll() is None:
        with suppress(OSError):  # ENXIO: nobody reads yet
            return os.fdopen(os.open(hold, os.O_WRONLY | os.O_NONBLOCK), "w")
        time.sleep(0.01)
    pytest.fail("the first set-up ended before it installed anything")


def made_environments(copy: Copy) -> int:
    return sum("-m venv" in call for call in copy.calls())


def test_versions_are_those_of_the_constraints(copy: Copy) -> None:
    done = copy.run("scripts/setup")
    assert done.returncode == 0, done.stderr
    assert "--constraint constraints.txt" in installs(copy)[0]
    assert (copy.folder / ".venv/.stamp").exists()


def test_what_is_up_to_date_is_left_alone(copy: Copy) -> None:
    copy.run("scripts/setup")
    before = len(installs(copy))
    done = copy.run("scripts/setup")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(installs(copy)) == before == 1


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_other_versions_are_installed_into_the_same_environment(copy: Copy, name: str) -> None:
    copy.run("scripts/setup")
    with (copy.folder / name).open("a") as file:
        file.write("# changed\n")
    assert copy.run("scripts/setup").returncode == 0
    assert (len(installs(copy)), made_environments(copy)) == (2, 1)


def test_an_environment_made_elsewhere_is_made_anew(copy: Copy) -> None:
    """Its programs name the folder they were made in."""
    copy.run("scripts/setup")
    copy.folder = copy.folder.rename(copy.folder.with_name("moved"))
    assert copy.run("scripts/setup").returncode == 0
    assert made_environments(copy) == 2


def test_the_newest_versions_go_into_an_environment_of_their_own(copy: Copy) -> None:
    assert copy.run("scripts/setup", "--newest").returncode == 0
    assert "constraint" not in installs(copy)[0]
    assert "--upgrade-strategy eager" in installs(copy)[0]
    assert not (copy.folder / ".venv").exists()
    assert (copy.folder / ".venv-newest/bin/python").exists()


def test_an_environment_without_pip_is_made_anew(copy: Copy) -> None:
    """What ``python3 -m venv`` leaves where Debian's python3-venv is missing."""
    program(copy.folder / ".venv/bin/python", 'echo "No module named pip" >&2; exit 1')
    done = copy.run("scripts/setup")
    assert done.returncode == 0, done.stderr
    assert (len(installs(copy)), made_environments(copy)) == (1, 1)


def test_after_a_failed_installation_the_next_one_begins_anew(copy: Copy) -> None:
    assert copy.run("scripts/setup", PIP_FAILS="yes").returncode != 0
    (copy.folder / ".venv/half-unpacked").touch()
    assert copy.run("scripts/setup").returncode == 0
    assert not (copy.folder / ".venv/half-unpacked").exists()


def test_after_a_failed_update_the_next_one_begins_anew(copy: Copy) -> None:
    copy.run("scripts/setup")
    with (copy.folder / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert copy.run("scripts/setup", PIP_FAILS="yes").returncode != 0
    assert copy.run("scripts/setup").returncode == 0
    assert made_environments(copy) == 2


@pytest.mark.parametrize("script", ["scripts/setup", "scripts/demo"])
def test_without_the_package_that_makes_environments_it_is_named(copy: Copy, script: str) -> None:
    done = copy.run(script, NO_ENSUREPIP="yes")
    assert done.returncode == 1
    assert done.stderr.endswith(f"on Debian: {REMEDY}\n")
    assert not (copy.folder / ".venv").exists()


def test_another_interpreter_needs_a_package_of_its_own(copy: Copy) -> None:
    program(copy.bin / "python3.12", PYTHON)
    done = copy.run("scripts/setup", NO_ENSUREPIP="yes", PYTHON="python3.12")
    assert done.returncode == 1
    assert done.stderr.endswith("apt-get install python3.12-venv\n")


def test_an_interpreter_that_is_not_there_is_named_with_its_package(copy: Copy) -> None:
    done = copy.run("scripts/setup", PYTHON="python3.99")
    assert done.returncode == 1
    assert "no python3.99" in done.stderr
    assert done.stderr.endswith("apt-get install python3.99-venv\n")


def test_a_second_one_waits_for_the_first_and_finds_all_done(copy: Copy, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    os.mkfifo(hold)
    script = str(copy.folder / "scripts/setup")
    with (
        subprocess.Popen([script], env=copy.environ(HOLD=str(hold))) as first,
        gate_of(hold, first) as gate,
        subprocess.Popen([script], env=copy.environ(), stderr=subprocess.PIPE, text=True) as second,
    ):
        assert second.stderr is not None
        assert "another one is at work here" in second.stderr.readline()
        gate.write("go on\n")
        gate.close()
        assert (first.wait(), second.wait()) == (0, 0)
    assert len(installs(copy)) == 1
