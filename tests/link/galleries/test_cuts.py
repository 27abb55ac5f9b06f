"""Power cuts and kills at every write while versions arrive: always one whole signed version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from agent.base.errors import KaopassError
from agent.gallery.city.copy import CityCopy
from agent.gallery.gallery import Gallery
from agent.protocol.galleries.records import key_of
from tests.faults.disks.disk import HOW, Disk, write_image
from tests.faults.disks.trace import build_library, memory_folder, read_trace
from tests.link.galleries.scripted.device import RING

pytestmark = pytest.mark.slow

WAYS = int(os.environ.get("KAOPASS_TEST_CUT_WAYS", "2"))  # of each cut; all of them take minutes
REVOKED = key_of("r-3")


@dataclass
class Signed:
    """What the city signed up to some moment, and what the device was done with."""

    keys: dict[tuple[int, int], tuple[str, set[bytes]]] = field(default_factory=dict)
    least: tuple[int, int] = (0, 0)

    def note(self, mark: bytes) -> None:
        kind, epoch, version, *rest = json.loads(mark)
        if kind == "may":
            self.keys[epoch, version] = (rest[0], {bytes.fromhex(key) for key in rest[1]})
        else:
            self.least = (epoch, version)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kaopass-", dir=memory_folder()) as name:
        yield Path(name)


def live(
    library: Path, folder: Path, *, epoch: int = 1, kill_after: int = -1
) -> subprocess.CompletedProcess[str]:
    (folder / "disk").mkdir(exist_ok=True)
    return subprocess.run(
        [
            *(sys.executable, "-m", "tests.link.galleries.scripted.life"),
            *(folder / "ca", folder / "disk", folder / "trace", str(epoch), str(kill_after)),
        ],
        env={**os.environ, "LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )


def problems_of(folder: Path, signed: Signed) -> list[str]:
    """Start on the files in *folder*: what is not as it must be."""
    if not (folder / "gallery.db").exists():
        return [] if signed.least == (0, 0) else ["the gallery is gone"]
    try:
        gallery = Gallery(folder / "gallery.db", RING, "p", domain="bus")
    except KaopassError as error:
        return [f"does not open: {error}"]
    with gallery:
        if gallery.salvaged is not None:
            return [f"a mere cut is taken for damage: {gallery.salvaged.reason}"]
        copy = CityCopy(gallery.store, "bus")
        version = copy.version
        position = version.position if version else (0, 0)
        if position < signed.least:
            return [f"went back from {signed.least} to {position}"]
        root, keys = signed.keys.get(position, ("", set()))
        found = {key_of(person.id) for person in gallery.people()}
        problems = []
        if found not in (keys, keys - {REVOKED}):
            problems.append(f"version {position} with other people")
        if version is not None and (version.root != root or copy.root != root):
            problems.append(f"version {position} is not whole")
        if not gallery.verify().sound:
            problems.append("rows that do not open")
    return problems


def test_a_cut_after_any_single_write_leaves_one_whole_signed_version(
    library: Path, folder: Path
) -> None:
    done = live(library, folder)
    assert done.returncode == 0, done.stderr
    chance, disk, signed = Random(3), Disk(), Signed()
    cuts, problems, versions = 0, [], set()
    for record in read_trace(folder / "trace"):
        if record.op == "M":
            signed.note(record.first)
            continue
        disk.apply(record)
        if not record.changes:
            continue
        for how in chance.sample(HOW, WAYS):
            write_image(folder / "image", disk.image(chance, how))
            cuts += 1
            problems += [
                f"cut {cuts} ({record.op}), {how}: {problem}"
                for problem in problems_of(folder / "image", signed)
            ]
            versions.add(signed.least)
    assert problems == []
    assert versions == {(0, 0), (1, 1), (1, 2), (2, 1)}
    assert cuts > 150


@pytest.mark.parametrize("kill_after", [15, 40, 90, 140])
def test_killed_at_any_moment_the_next_life_finishes_what_was_begun(
    library: Path, folder: Path, kill_after: int
) -> None:
    """SIGKILL after so many writes; what is there is whole, and a device on it gets to the end."""
    assert live(library, folder, kill_after=kill_after).returncode == -9
    signed = Signed()
    for record in read_trace(folder / "trace"):
        if record.op == "M":
            signed.note(record.first)
    assert problems_of(folder / "disk", signed) == []
    # Another town with a later epoch: what lay ready of the first is of no use to it.
    shutil.rmtree(folder / "ca")
    (folder / "trace").unlink()
    done = live(library, folder, epoch=7)
    assert done.returncode == 0, done.stderr
    marks = [r.first for r in read_trace(folder / "trace") if r.op == "M"]
    for mark in marks:
        signed.note(mark)
    assert signed.least == (8, 1)
    assert problems_of(folder / "disk", signed) == []
