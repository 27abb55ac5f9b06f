"""``scripts/apt-get`` waits for the package manager, says for whom, and not for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.scripts.shell import Copy, program

LISTS = "Could not get lock /var/lib/apt/lists/lock. It is held by process 812 (apt-get)"
DPKG = "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 9 (unattended-upgr)"
SIMPLE = ["bash", "cat", "env", "grep", "mktemp", "rm"]


def held(message: str, times: int) -> str:
    """An apt-get that finds the lock taken that many times, as apt 2.6 and 3.0 say it."""
    return f"""
    [ "$(grep -c ^apt-get "$CALLS")" -gt {times} ] && exit 0
    echo "E: {message}" >&2
    echo "E: Unable to lock directory" >&2
    exit 100
    """


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    copy = Copy(tmp_path, "scripts/apt-get")
    program(copy.bin / "sleep", "")
    program(copy.bin / "id", "echo 0")
    return copy


@pytest.mark.parametrize("message", [LISTS, DPKG])
def test_it_waits_and_says_once_who_holds_what(copy: Copy, message: str) -> None:
    program(copy.bin / "apt-get", held(message, times=3))
    done = copy.run("scripts/apt-get", "install", "-y", "swtpm")
    assert done.returncode == 0
    assert done.stderr == f"apt-get: waiting, 600 s at most: {message}\n"
    assert [call for call in copy.calls() if call.startswith("apt-get")] == [
        "apt-get install -y swtpm"
    ] * 4


def test_a_lock_that_stays_ends_in_an_error(copy: Copy) -> None:
    program(copy.bin / "apt-get", held(DPKG, times=1000))
    done = copy.run("scripts/apt-get", "update", APT_WAIT_SECONDS="0")
    assert done.returncode == 1
    assert done.stderr == f"apt-get: gave up after 0 s: {DPKG}; run this again later\n"


def test_any_other_error_is_told_at_once_as_it_is(copy: Copy) -> None:
    program(copy.bin / "apt-get", 'echo "E: Unable to locate package swtpn" >&2; exit 100')
    done = copy.run("scripts/apt-get", "install", "swtpn")
    assert (done.returncode, done.stderr) == (100, "E: Unable to locate package swtpn\n")
    assert len([call for call in copy.calls() if call.startswith("apt-get")]) == 1


def test_an_ordinary_user_is_root_by_sudo(copy: Copy) -> None:
    program(copy.bin / "id", "echo 1000")
    program(copy.bin / "sudo", '"$@"')
    program(copy.bin / "apt-get", 'echo "$DEBIAN_FRONTEND $RUNLEVEL"')
    done = copy.run("scripts/apt-get", "update", RUNLEVEL="1")
    assert (done.returncode, done.stdout) == (0, "noninteractive 1\n")
    assert "sudo" in [call.split()[0] for call in copy.calls()]


def test_without_sudo_it_says_what_root_is_to_do(copy: Copy) -> None:
    program(copy.bin / "id", "echo 1000")
    for tool in SIMPLE:
        found = next(p for d in os.get_exec_path() if (p := Path(d) / tool).exists())
        (copy.bin / tool).symlink_to(found)
    done = copy.run("scripts/apt-get", "install", "swtpm", PATH=str(copy.bin))
    assert done.returncode == 1
    assert done.stderr == "apt-get: no sudo here; as root: apt-get install swtpm\n"
