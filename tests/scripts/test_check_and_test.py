"""``scripts/check`` runs every tool and forgives none; ``scripts/test`` checks, then tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.shell import Copy, program

TOOLS = ("mypy", "ruff format", "ruff check", "lint-imports")

PYTEST = "python -m pytest --numprocesses 2 --dist worksteal"


@pytest.fixture
def checked(tmp_path: Path) -> Copy:
    copy = Copy(tmp_path, "scripts/check")
    program(copy.folder / "scripts/setup", "")
    for venv in (".venv", ".venv-newest"):
        for tool in ("python", "mypy", "ruff", "lint-imports"):
            fails = f'! [[ "{tool} $*" == "$FAILS"* ]]' if tool != "python" else "exit 1"
            program(copy.folder / venv / "bin" / tool, f'echo "$0"; {fails}')
    return copy


def test_all_pass(checked: Copy) -> None:
    done = checked.run("scripts/check", FAILS="nothing")
    assert done.returncode == 0, done.stderr
    for tool in TOOLS:
        assert any(call.startswith(tool) for call in checked.calls()), tool


@pytest.mark.parametrize("tool", TOOLS)
def test_one_that_fails_fails_the_check_and_the_others_still_run(checked: Copy, tool: str) -> None:
    assert checked.run("scripts/check", FAILS=tool).returncode == 1
    for other in TOOLS:
        assert any(call.startswith(other) for call in checked.calls()), other


def test_the_newest_versions_are_checked_in_their_own_environment(checked: Copy) -> None:
    done = checked.run("scripts/check", "--newest", FAILS="nothing")
    assert "setup --newest" in checked.calls()
    assert {line.split("/bin/")[0] for line in done.stdout.splitlines()} == {".venv-newest"}


@pytest.fixture
def tested(tmp_path: Path) -> Copy:
    copy = Copy(tmp_path, "scripts/test")
    program(copy.folder / "scripts/check", '[ -z "${BAD:-}" ]')
    program(copy.folder / "scripts/apt-get", 'echo "runlevel ${RUNLEVEL:-}" >> "$CALLS"')
    program(copy.bin / "python3", '[ -z "${NO_ENSUREPIP:-}" ]')
    program(copy.bin / "nproc", "echo 2")
    for venv in (".venv", ".venv-newest"):
        program(copy.folder / venv / "bin/python", f'echo {venv}; [ -z "${{RED:-}}" ]')
    return copy


def pytest_call(copy: Copy) -> list[str]:
    return [call for call in copy.calls() if call.startswith("python -m pytest")]


def test_everything_is_tested_on_all_cores_after_the_check(tested: Copy) -> None:
    done = tested.run("scripts/test")
    assert (done.returncode, done.stdout) == (0, ".venv\n")
    assert tested.calls()[-2:] == ["check ", PYTEST]


def test_what_does_not_pass_the_check_is_not_tested(tested: Copy) -> None:
    assert tested.run("scripts/test", BAD="yes").returncode == 1
    assert pytest_call(tested) == []


def test_a_failed_test_fails_the_script(tested: Copy) -> None:
    assert tested.run("scripts/test", RED="yes").returncode == 1


def test_fast_leaves_out_what_is_slow(tested: Copy) -> None:
    tested.run("scripts/test", "--fast")
    assert pytest_call(tested) == [f"{PYTEST} -m not slow"]


def test_the_newest_versions_are_tested_in_their_own_environment(tested: Copy) -> None:
    done = tested.run("scripts/test", "--newest", "--fast", "-x")
    assert done.stdout == ".venv-newest\n"
    assert "check --newest" in tested.calls()
    assert pytest_call(tested) == [f"{PYTEST} -m not slow -x"]


def test_other_arguments_are_for_pytest(tested: Copy) -> None:
    tested.run("scripts/test", "-k", "journal", "tests/journal")
    assert pytest_call(tested) == [f"{PYTEST} -k journal tests/journal"]


def test_the_package_that_makes_environments_is_installed_where_missing(tested: Copy) -> None:
    done = tested.run("scripts/test", NO_ENSUREPIP="yes")
    assert "test: installing python3-venv" in done.stderr
    calls = tested.calls()
    update, install = (
        next(n for n, call in enumerate(calls) if call.startswith(start))
        for start in ("apt-get update", "apt-get install")
    )
    assert update < install < calls.index("check ")
    assert "python3-venv" in calls[install]
    assert calls[install + 1] == "runlevel 1"  # no service of a package starts here
