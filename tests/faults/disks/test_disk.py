"""The disk that forgets: it follows everything a process does, and forgets only what it may."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.faults.disks.disk import HOW, Disk
from tests.faults.disks.trace import Record, UntraceableError, build_library, read_trace
from tests.faults.processes import Processes
from tests.waiting import LATE_SECONDS

CREATED, IS_DIRECTORY = 1, 4


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def processes(library: Path) -> Iterator[Processes]:
    with Processes(library, library.with_name("log")) as running:
        yield running


def traced(library: Path, folder: Path, program: str, die_after: int = -1) -> int:
    """Run *program* with ``disk`` (a Path) traced; returns its exit status."""
    (folder / "disk").mkdir()
    before = (
        "import errno, mmap, os\n"
        "from pathlib import Path; from tests.faults.disks.trace import Tracer\n"
        f"disk, tracer = Path({str(folder / 'disk')!r}), Tracer()\n"
        f"tracer.begin(disk, Path({str(folder / 'trace')!r}), {die_after})\n"
    )
    return subprocess.run(
        [sys.executable, "-c", before + program],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=Path(__file__).parents[3],
        check=False,
    ).returncode


def content_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith("-shm")}


@pytest.mark.parametrize("seed", range(5))
def test_nothing_that_a_journal_does_to_its_disk_escapes_the_trace(
    processes: Processes, tmp_path: Path, seed: int
) -> None:
    """If everything arrives, the image is the directory itself, to the byte."""
    root, trace = tmp_path / "disk", tmp_path / "trace"
    root.mkdir()
    life = processes.start(
        "writer", tmp_path / "log", root=str(root), trace=str(trace), seed=seed, steps=60
    )
    assert life.wait(LATE_SECONDS) == 0
    disk = Disk()
    disk.replay(trace)
    image = disk.image(Random(0), "everything")
    found = content_of(root)
    assert {name: image[name] for name in image if not name.endswith("-shm")} == found
    assert len(found["journal.db"]) > 20_000


def test_what_was_synced_is_in_every_image_and_what_was_not_may_be_missing() -> None:
    disk = Disk()
    for record in (
        Record("O", CREATED, 3, 0, b"a", b""),
        Record("W", 0, 3, 0, b"s" * 1024, b""),
        Record("S", 0, 3, 0, b"", b""),
        Record("O", IS_DIRECTORY, 4, 0, b"", b""),
        Record("S", 0, 4, 0, b"", b""),
        Record("W", 0, 3, 1024, b"u" * 1024, b""),
    ):
        disk.apply(record)
    images = [disk.image(Random(n), how)["a"] for n in range(200) for how in HOW]
    assert all(image[:1024] == b"s" * 1024 for image in images)
    ends = {image[1024:] for image in images}
    half, nothing = b"u" * 512, bytes(512)
    assert ends == {b"", half, half + half, half + nothing, nothing + half, nothing + nothing}


def test_a_sync_of_the_file_does_not_make_its_name_certain_and_one_of_the_directory_does() -> None:
    disk = Disk()
    for record in (
        Record("O", CREATED, 3, 0, b"a", b""),
        Record("W", 0, 3, 0, b"new", b""),
        Record("S", 0, 3, 0, b"", b""),
        Record("R", 0, -1, 0, b"a", b"b"),
    ):
        disk.apply(record)
    names = {tuple(disk.image(Random(n), how)) for n in range(50) for how in HOW}
    assert names == {(), ("a",), ("b",)}
    disk.apply(Record("O", IS_DIRECTORY, 4, 0, b"", b""))
    disk.apply(Record("S", 0, 4, 0, b"", b""))
    assert all(disk.image(Random(n), how) == {"b": b"new"} for n in range(50) for how in HOW)


def test_python_files_are_followed_as_sqlite_is(library: Path, tmp_path: Path) -> None:
    program = """
new = disk / "x.new"
with new.open("w") as file:
    file.write("one")
    file.flush()
    os.fsync(file.fileno())
new.replace(disk / "x")
(disk / "y").write_bytes(b"two")
(disk / "y").write_bytes(b"3")
(disk / "z").write_bytes(b"four")
(disk / "z").unlink()
"""
    assert traced(library, tmp_path, program) == 0
    disk = Disk()
    disk.replay(tmp_path / "trace")
    image = disk.image(Random(0), "everything")
    assert image == content_of(tmp_path / "disk") == {"x": b"one", "y": b"3"}


def test_a_life_ends_after_exactly_the_change_it_was_given(library: Path, tmp_path: Path) -> None:
    program = """
file = os.open(disk / "x", os.O_RDWR | os.O_CREAT)
for n in range(100):
    os.write(file, b"x")
"""
    assert traced(library, tmp_path, program, die_after=41) == -9
    assert (tmp_path / "disk" / "x").read_bytes() == b"x" * 42
    assert sum(record.changes for record in read_trace(tmp_path / "trace")) == 42


def test_a_full_disk_takes_what_fits_and_then_refuses(library: Path, tmp_path: Path) -> None:
    program = """
file = os.open(disk / "x", os.O_RDWR | os.O_CREAT)
tracer.room(1000)
assert os.write(file, b"x" * 700) == 700
assert os.statvfs(disk).f_bavail == 0
assert os.write(file, b"x" * 700) == 300
try:
    os.write(file, b"x")
except OSError as error:
    assert error.errno == errno.ENOSPC
else:
    raise AssertionError("it fits")
assert os.pwrite(file, b"y" * 1000, 0) == 1000
tracer.room(-1)
assert os.write(file, b"x") == 1
"""
    assert traced(library, tmp_path, program) == 0
    disk = Disk()
    disk.replay(tmp_path / "trace")
    assert disk.image(Random(0), "everything")["x"] == b"y" * 1000 + b"x"


def test_what_cannot_be_followed_is_refused_instead_of_overlooked(
    library: Path, tmp_path: Path
) -> None:
    program = """
with (disk / "x").open("w+b") as file:
    file.write(bytes(4096))
    file.flush()
    mmap.mmap(file.fileno(), 4096)
"""
    assert traced(library, tmp_path, program) == 0
    with pytest.raises(UntraceableError, match="shared writable mapping"):
        list(read_trace(tmp_path / "trace"))


def test_after_a_kill_what_was_done_and_not_noted_counts_as_not_synced(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    (root / "a").write_bytes(b"s" * 1024)
    disk = Disk.of(root)
    (root / "a").write_bytes(b"s" * 512 + b"u" * 1000)
    (root / "b").write_bytes(b"new")
    disk.reconcile(root)
    assert disk.image(Random(0), "nothing") == {"a": b"s" * 1024}
    assert disk.image(Random(0), "everything") == {"a": b"s" * 512 + b"u" * 1000, "b": b"new"}
