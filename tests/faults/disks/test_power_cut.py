"""Power cuts at every write: what ``append`` returned is there, and the proof is able to fail."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from agent.base.events import person_of
from agent.journal import Journal
from agent.journal.database import PAGE_BYTES
from tests.faults.device import KEY
from tests.faults.disks.cuts import cut_everywhere
from tests.faults.disks.disk import HOW, Disk, write_image
from tests.faults.disks.trace import build_library, memory_folder, read_trace
from tests.faults.disks.writer import NOW, made_event
from tests.faults.processes import Processes
from tests.waiting import LATE_SECONDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    folder = tmp_path_factory.mktemp("library")
    with Processes(build_library(folder), folder / "log") as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: thousands of journals are opened and synced here."""
    with tempfile.TemporaryDirectory(prefix="kaopass-", dir=memory_folder()) as name:
        yield Path(name)


def write(processes: Processes, folder: Path, seed: int, steps: int, *, weak: bool = False) -> Path:
    """The trace of a journal's whole life on a disk of its own."""
    root, trace = folder / "disk", folder / "trace"
    root.mkdir(exist_ok=True)
    life = processes.start(
        "writer",
        folder / "log",
        root=str(root),
        trace=str(trace),
        seed=seed,
        steps=steps,
        weak=weak,
    )
    assert life.wait(LATE_SECONDS) == 0, (folder / "log").read_text()
    return trace


@pytest.mark.parametrize("seed", range(2))
def test_a_cut_after_any_single_write_loses_nothing_that_append_returned(
    processes: Processes, folder: Path, seed: int
) -> None:
    """Nor is anything altered, holed, un-acknowledged, taken for damage, or numbered twice."""
    trace = write(processes, folder, seed, 20)
    cuts, problems = cut_everywhere(trace, seed, folder / "image", ways=2)
    assert problems == []
    assert cuts > 250


def test_with_synchronous_normal_the_same_cuts_find_losses(
    processes: Processes, folder: Path
) -> None:
    trace = write(processes, folder, 1, 10, weak=True)
    _, problems = cut_everywhere(trace, 1, folder / "image")
    assert any("event 1 is lost" in problem for problem in problems)
    assert any("handed out a second time" in problem for problem in problems)


def test_a_salvage_that_the_power_interrupts_anywhere_saves_the_same_events(
    processes: Processes, folder: Path
) -> None:
    """However far it came, the next boot finishes it, and nothing more is lost than the page."""
    root, image = folder / "disk", folder / "image"
    root.mkdir()
    with Journal(root / "journal.db", KEY) as journal:
        for token in range(1, 61):
            journal.append(made_event(token))
    content = (root / "journal.db").read_bytes()
    leaves = [
        at
        for at in range(PAGE_BYTES, len(content), PAGE_BYTES)
        if content[at] == 0x0D and content[at + 4] > 5
    ]
    with (root / "journal.db").open("r+b") as file:
        file.seek(leaves[1])
        file.write(bytes(PAGE_BYTES))
    disk = Disk.of(root)
    shutil.copytree(root, image)
    expected = saved(image)
    assert 35 < len(expected) < 60
    chance = Random(7)
    cuts = 0
    for record in read_trace(write(processes, folder, 0, 0)):
        disk.apply(record)
        if record.changes:
            cuts += 1
            write_image(image, disk.image(chance, chance.choice(HOW)))
            assert saved(image) == expected, f"cut {cuts} ({record.op})"
    assert cuts > 50


def saved(folder: Path) -> dict[int, str]:
    """Boot on *folder*: the person of every event there, by number."""
    journal, _ = Journal.open_checked(folder / "journal.db", KEY, now=NOW)
    with journal:
        entries = list(journal.entries())
        assert all(entry.event for entry in entries)
        return {entry.seq: person_of(entry.event) for entry in entries if entry.event}
