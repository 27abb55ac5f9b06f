"""What the benchmarks share: the scene in memory, percentiles, and the board they ran on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.base.ports import FaceDetector
from agent.base.values import Frame
from agent.packs.manifest import load_manifest
from agent.packs.store import find
from agent.settings.model import Settings, load
from agent.sim.cameras.scene import SceneCamera
from agent.sim.photographs import passengers

PEOPLE = 25_324  # Izumi Park Town, January 2022
PACK = "buffalo_s"
SCENE_SECONDS = 24.0
SEARCH_BUDGET_MS = 50.0  # of the 500 ms from a face to the lamp
MEMORY_SHARE = 4  # at most this part of the memory for templates
TEMPLATE_BYTES = 512 * 4


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine a figure belongs to; ``load`` is the 1-minute load average at the start."""

    cores: int
    memory_mb: int
    load: float


def this_board() -> Machine:
    """The processor cores this process may use, the memory, and what else is running."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cores = len(os.sched_getaffinity(0))
    return Machine(cores, pages // 2**20, round(os.getloadavg()[0], 1))


def gallery_room(board: Machine, ms_search: float) -> int:
    """The largest gallery for *board*, to a thousand, if a town's is searched in *ms_search*."""
    by_time = int(SEARCH_BUDGET_MS / ms_search * PEOPLE)
    by_memory = board.memory_mb * 2**20 // MEMORY_SHARE // TEMPLATE_BYTES
    return round(min(by_time, by_memory), -3)


def bench_settings(file: Path | None, **overrides: dict[str, Any]) -> Settings:
    """The settings a benchmark runs with; without a file the default pack's licence is accepted.

    Liveness is off where it is not told otherwise: the passengers are photographs.
    """
    given = dict(overrides)
    if file is None:
        given.setdefault("models", {}).setdefault("licence", "research")
    given.setdefault("liveness", {"mode": "off"})
    return load(file, given)


def door_sections() -> dict[str, dict[str, Any]]:
    """What the settings of a door under measurement say of models and liveness.

    Liveness is judged as at a real door where its pack is installed, and off elsewhere. With its
    threshold at 0 every face passes: the passengers are photographs.
    """
    accepted = {"licence": "research", "pack": PACK}
    here = load(None, {"models": accepted})
    directory = here.models_directory
    if find(load_manifest().pack(here.liveness.pack), directory) is None:
        return {"models": accepted, "liveness": {"mode": "off"}}
    return {
        "models": {**accepted, "directory": str(directory)},
        "liveness": {"mode": "on", "threshold": 0.0},
    }


def scene_frames(settings: Settings, detector: FaceDetector, seconds: float) -> list[Frame]:
    """The first *seconds* of the scene at the door, drawn in advance; 0.9 MB a frame at 640x480."""
    camera = settings.camera
    scene = SceneCamera(
        lambda: passengers(detector),
        width_pixels=camera.width_pixels,
        height_pixels=camera.height_pixels,
        frames_per_second=camera.frames_per_second,
        pace="fast",
    )
    scene.open()
    frames: list[Frame] = []
    while len(frames) < seconds * camera.frames_per_second:
        frame = scene.read()
        if frame is None:
            break
        frames.append(frame)
    scene.close()
    return frames


def percentile(values: Sequence[float], share: float) -> float:
    """The value that *share* percent of *values* do not exceed; NaN of none."""
    return float(np.percentile(values, share)) if len(values) else float("nan")
