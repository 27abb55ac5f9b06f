"""``kaopass bench door``: from the first usable frame of a face to the lamp, the journal included.

The whole agent runs on the scene at 15 frames a second in real time, everybody in it enrolled
among 25,324 others, with lamps on mock pins and a journal on disk; once bound to one processor
core and once to two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import numpy as np

from agent.base.errors import UsageError
from agent.base.events import StoredEvent
from agent.base.values import DoorSignal
from agent.bench.board import (
    PACK,
    PEOPLE,
    Machine,
    bench_settings,
    door_sections,
    percentile,
    scene_frames,
    this_board,
)
from agent.bench.start import gallery_of
from agent.device.notify import from_environment
from agent.door.recogniser import Step
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.keys.ring import open_keyring
from agent.sim.photographs import CAST_PICTURES, read_picture
from agent.sim.recorded import RecordedCamera
from agent.wiring.agent import Agent
from agent.wiring.parts import open_networks, quality_gate

FRAMES_PER_SECOND = 15.0
PROMISED_MS = 500


@dataclass(frozen=True, slots=True)
class Door:
    """Milliseconds from a track's first usable frame, as the camera gave it, to the lamp.

    ``liveness``: it was judged, too.
    """

    cores: int
    liveness: bool
    decisions: int
    ms_median: float
    ms_p95: float
    frames: int
    dropped: int


@dataclass(frozen=True, slots=True)
class DoorFigures:
    board: Machine
    doors: tuple[Door, ...]


class Stopwatch:
    """The display that notes when it is told, and the watcher that knows of whom it was."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._lit: list[float] = []
        self.milliseconds: list[float] = []

    def open(self) -> None:
        """Nothing to open."""

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        """Called after the lamps are lit."""
        del signal
        if stored is not None:
            self._lit.append(time.monotonic_ns() / 1e6)

    def close(self) -> None:
        """Nothing to close."""

    def watch(self, step: Step) -> None:
        for seen in step.tracks.seen:
            if seen.quality.usable:
                self._first.setdefault(seen.track, step.tracks.frame.mono_ms)
        # Lamps are lit in the order of the decisions; a track already recorded lights none.
        matched = [d.track for d in step.decisions if d.person is not None]
        for track, lit in zip(matched[: len(self._lit)], self._lit, strict=False):
            if track in self._first:
                self.milliseconds.append(lit - self._first[track])
        self._lit.clear()


def measure(seconds: float) -> DoorFigures:
    """Run the door on one core and, where there are two, on two; each in a process of its own."""
    board = this_board()
    doors = []
    for cores in (1, 2)[: board.cores]:
        # Bound before any library starts its threads.
        done = subprocess.run(
            [
                *(sys.executable, "-m", "agent", "bench", "door", "--json"),
                *("--cores", str(cores), "--seconds", str(seconds)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UsageError(f"the door on {cores} core(s) failed: {done.stderr.strip()[-500:]}")
        doors.append(Door(**json.loads(done.stdout)))
    return DoorFigures(board, tuple(doors))


def run_here(cores: int, seconds: float) -> Door:
    """Bind this process to *cores* cores and run the door in it."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, allowed)
    with gallery_of(PEOPLE, 1) as state:
        sections = door_sections()
        settings = bench_settings(
            None,
            state={"directory": str(state)},
            models={**sections["models"], "threads": cores},
            liveness=sections["liveness"],
            place={"repeat_seconds": 0},
            sync={"enabled": False},
            camera={"kind": "scene", "pace": "clock", "frames_per_second": FRAMES_PER_SECOND},
            feedback={"display": "none", "lamps": "gpio", "pin_factory": "mock"},
        )
        networks = open_networks(settings)
        ring = open_keyring(FileKeySource(state / "keys"), may_create=False)
        gate = quality_gate(settings)
        with Gallery(state / "gallery.db", ring, PACK) as gallery:
            embedder = networks.protected(gallery.protection).embedder
            for name in CAST_PICTURES:
                image = read_picture(name)
                faces = [f for f in networks.detector.detect(image) if gate.judge(image, f).usable]
                for number, row in enumerate(embedder.embed_reference(image, faces)):
                    gallery.enroll(f"{name}-{number}", row[np.newaxis], now_ms=0)
        camera = RecordedCamera(scene_frames(settings, networks.detector, seconds))
        watch = Stopwatch()
        notifier, watchdog = from_environment()
        agent = Agent(
            settings,
            ring,
            displays=[watch],
            notifier=notifier,
            watchdog=watchdog,
            camera=camera,
            watch=watch.watch,
        )
        with agent:
            agent.run(threading.Event(), until_end=True)
            counters = agent.source.counters
    if not watch.milliseconds:
        raise UsageError("nobody was recognised at the door; look at: kaopass bench vision")
    return Door(
        cores=cores,
        liveness=settings.liveness.mode == "on",
        decisions=len(watch.milliseconds),
        ms_median=round(percentile(watch.milliseconds, 50)),
        ms_p95=round(percentile(watch.milliseconds, 95)),
        frames=counters.frames,
        dropped=counters.dropped,
    )
