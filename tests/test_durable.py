"""A small file is whole or as it was, and nothing stays beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.durable import LEFTOVER_SECONDS, write_file


def test_content_is_replaced_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if fails == "fsync" else (Path, "replace")), no_space)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_cut_left_is_cleared_but_not_what_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "key"
    old, young, other = (tmp_path / n for n in (".key.part-1", ".key.part-2", ".keys.part-1"))
    for draft in (old, young, other):
        draft.write_bytes(b"half")
    for draft in (old, other):
        long_ago = draft.stat().st_mtime - LEFTOVER_SECONDS - 1
        os.utime(draft, (long_ago, long_ago))
    write_file(path, b"whole")
    assert {each.name for each in tmp_path.iterdir()} == {"key", young.name, other.name}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_writes_belongs_to_whoever_has_to_read_it(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1235)
    path = tmp_path / "crl.pem"
    write_file(path, b"first")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 1235)
    os.chown(path, 4321, 4322)
    write_file(path, b"second")
    assert (path.stat().st_uid, path.stat().st_gid) == (4321, 4322)
