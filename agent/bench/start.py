"""``kaopass bench start``: from starting the program to ready, and the memory it takes then.

A gallery is made as the agent's own is: encrypted, with a key for each person, on disk. Its
templates are random directions; the passengers are the people of packaged photographs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import UsageError
from agent.bench.board import PACK, PEOPLE, Machine, door_sections, this_board
from agent.bench.process import cpu_seconds, memory_mb
from agent.bench.vision import strangers
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.keys.ring import open_keyring
from agent.sim.photographs import picture

MAX_START_SECONDS = 120.0
RUN_SECONDS = 4.0  # with faces before the camera, so that every part has been used


@dataclass(frozen=True, slots=True)
class Start:
    """``seconds`` from the start of the process to the notice "ready", ``cpu_seconds`` what it
    computed until then: far less, where other work holds it up. Memory of the process: resident at
    the end, and the most it ever was. ``cold``: the gallery was not in the page cache;
    ``liveness``: it was judged, too.
    """

    people: int
    templates_each: int
    cold: bool
    liveness: bool
    seconds: float
    cpu_seconds: float
    resident_mb: float
    peak_mb: float
    decisions_possible: bool


@dataclass(frozen=True, slots=True)
class StartFigures:
    board: Machine
    starts: tuple[Start, ...]


def measure(people: int = PEOPLE, templates: tuple[int, ...] = (1, 3)) -> StartFigures:
    """Start `kaopass run` on galleries with that many templates a person."""
    board = this_board()
    starts = []
    for each in templates:
        with gallery_of(people, each) as state:
            starts += [start_once(state, people, each, cold=cold) for cold in (True, False)]
    return StartFigures(board, tuple(starts))


@contextmanager
def gallery_of(people: int, each: int) -> Iterator[Path]:
    """A state directory with a real gallery in it, removed afterwards."""
    # Every enrolment is a synced transaction: made in memory, then copied, it takes seconds.
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a temporary folder of its own is made in it
    with (
        tempfile.TemporaryDirectory(prefix="kaopass-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="kaopass-bench-", dir=fast) as workshop,
    ):
        made, state = Path(workshop) / "state", Path(folder) / "state"
        made.mkdir(mode=0o700)
        ring = open_keyring(FileKeySource(made / "keys"), may_create=True)
        drawn = strangers(people, each)
        now_ms = time.time_ns() // 1_000_000
        with Gallery(made / "gallery.db", ring, PACK) as gallery:
            for number, person in enumerate(drawn.ids):
                rows = drawn.matrix[number * each : (number + 1) * each]
                gallery.enroll(person, rows, now_ms=now_ms)
        del drawn
        shutil.copytree(made, state)
        yield state


def start_once(state: Path, people: int, each: int, *, cold: bool) -> Start:
    """Start the agent on *state*, let it see faces for a while, and stop it."""
    database = state / "gallery.db"
    if cold:
        with database.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    clip = state.parent / "clip"
    if not clip.exists():
        clip.mkdir()
        for index in range(8):
            # Links: no picture of a face is written anywhere.
            (clip / f"{index:03d}.jpg").symlink_to(picture("t1.jpg"))
    environment = {
        **os.environ,
        "KAOPASS_STATE__DIRECTORY": str(state),
        "KAOPASS_SYNC__ENABLED": "false",
        "KAOPASS_CAMERA__LOOP": "true",
        "KAOPASS_CAMERA__PACE": "clock",
    }
    sections = door_sections()
    for section, values in sections.items():
        for key, value in values.items():
            environment[f"KAOPASS_{section}__{key}".upper()] = str(value)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", "--camera", str(clip), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        seconds = _until_ready(process, begun)
        computed = round(cpu_seconds(process.pid), 2)
        time.sleep(RUN_SECONDS)
        resident, peak = memory_mb(process.pid)
        status = subprocess.run(
            [sys.executable, "-m", "agent", "status", "--json"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=False,
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
    looked = _looked(status.stdout)
    judged = sections["liveness"]["mode"] == "on"
    return Start(people, each, cold, judged, round(seconds, 2), computed, resident, peak, looked)


def _until_ready(process: subprocess.Popen[str], begun: float) -> float:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    for line in process.stdout:
        if json.loads(line)["signal"] == "ready":
            return time.perf_counter() - begun
        if time.perf_counter() - begun > MAX_START_SECONDS:
            break
    raise UsageError(
        "the agent did not become ready; start it by hand to see why: kaopass run --camera scene"
    )


def _looked(status: str) -> bool:
    """Whether the agent had looked at faces by then; else its memory says little."""
    counters = json.loads(status).get("counters", {}) if status else {}
    return int(counters.get("faces", 0)) > 0
