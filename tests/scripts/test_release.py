"""``scripts/release`` builds and tags one clean, named, new version, or nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.scripts.shell import Copy, program


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    copy = Copy(tmp_path, "scripts/release", ".gitignore")
    program(copy.folder / "scripts/setup", "")
    build = "mkdir dist; touch dist/kaopass-0.2.0.tar.gz dist/kaopass-0.2.0-py3-none-any.whl"
    program(copy.folder / ".venv/bin/python", f'[ -n "${{EMPTY:-}}" ] || {{ {build}; }}')
    (copy.folder / "agent").mkdir()
    (copy.folder / "agent/__init__.py").write_text('__version__ = "0.2.0"\n')
    (copy.folder / "CHANGELOG.md").write_text("# Changelog\n\n## 0.2.0 (2026-12-01)\n")
    git(copy.folder, "init", "-q")
    git(copy.folder, "config", "user.name", "n")
    git(copy.folder, "config", "user.email", "e@example.org")
    commit(copy)
    return copy


def commit(copy: Copy) -> None:
    git(copy.folder, "add", "-A")
    git(copy.folder, "commit", "-q", "-m", "all")


def tags(copy: Copy) -> list[str]:
    return git(copy.folder, "tag").split()


def test_what_is_clean_and_named_is_built_and_tagged(copy: Copy) -> None:
    done = copy.run("scripts/release")
    assert done.returncode == 0, done.stderr
    assert tags(copy) == ["v0.2.0"]
    assert "python -m build --no-isolation --outdir dist ." in copy.calls()


def refused(copy: Copy, message: str, **environ: str) -> None:
    before = tags(copy)
    done = copy.run("scripts/release", **environ)
    assert done.returncode == 1
    assert message in done.stderr
    assert tags(copy) == before


def test_what_is_not_committed_is_not_released(copy: Copy) -> None:
    (copy.folder / "agent/new.py").touch()
    refused(copy, "not committed")


def test_a_version_the_changelog_does_not_name_is_not_released(copy: Copy) -> None:
    (copy.folder / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 0.2.0.1\n")
    commit(copy)
    refused(copy, "CHANGELOG.md has no heading '## 0.2.0'")


def test_a_version_is_released_once(copy: Copy) -> None:
    copy.run("scripts/release")
    refused(copy, "v0.2.0 was released; raise __version__")


def test_a_build_of_another_version_is_not_tagged(copy: Copy) -> None:
    refused(copy, "the build made no dist/kaopass-0.2.0.tar.gz", EMPTY="yes")
