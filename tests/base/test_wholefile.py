"""A small file is whole or as it was, and nothing stays beside it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from agent.base.values import Vector
from agent.base.wholefile import LEFTOVER_SECONDS, create_file, write_file
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing


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

    monkeypatch.setattr(os if fails == "fsync" else Path, fails, no_space)
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


def test_opening_a_gallery_twice_keeps_the_locks_of_the_first_connection(tmp_path: Path) -> None:
    """Else the next process to close the file takes itself for the last, and removes its log."""
    path = tmp_path / "gallery.db"
    ring = KeyRing(bytes(range(32)))
    with Gallery(path, ring, "p") as gallery:
        gallery.people()
        with Gallery(path, ring, "p") as second:
            second.people()
        code = (
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
            "db.execute('SELECT COUNT(*) FROM person').fetchone(); db.close()"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        log = path.with_name("gallery.db-wal")
        assert log.exists(), "another process removed the log of an open gallery"
        gallery.enroll("r-1", unit_rows(), now_ms=1)
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT COUNT(*) FROM person").fetchone() == (1,)


def unit_rows() -> Vector:
    rows = np.random.default_rng(1).standard_normal((1, 32)).astype(np.float32)
    found: Vector = rows / np.linalg.norm(rows)
    return found


def test_a_file_that_is_there_is_not_even_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    create_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"content")
    monkeypatch.setattr(os, "close", lambda _: pytest.fail("it was opened"))
    create_file(path)
    assert path.read_bytes() == b"content"
