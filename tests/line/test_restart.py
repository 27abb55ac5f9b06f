"""The pipeline's thread dies once: the door goes on, and knows everybody as before."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from agent.base.values import Outcome
from agent.bench.board import bench_settings, scene_frames
from agent.device.notify import from_environment
from agent.door.recogniser import Step
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.keys.ring import open_keyring
from agent.sim.recorded import RecordedCamera
from agent.wiring.agent import Agent
from tests.line.door import networks, people_of

pytestmark = pytest.mark.slow


def test_after_a_death_of_the_pipeline_people_are_recognised_again(tmp_path: Path) -> None:
    settings = bench_settings(
        None,
        state={"directory": str(tmp_path)},
        place={"repeat_seconds": 0},
        sync={"enabled": False},
        camera={"kind": "scene", "pace": "fast"},
        feedback={"display": "none", "lamps": "none"},
    )
    ring = open_keyring(FileKeySource(settings.keys_directory), may_create=True)
    with Gallery(tmp_path / "gallery.db", ring, settings.models.pack) as gallery:
        for name in ("t1.jpg", "players.jpg", "gdp.jpg"):
            for person, rows in people_of(name).items():
                gallery.enroll(person, gallery.protection.apply(np.stack([*rows])), now_ms=1)
    matched: list[bool] = []  # whether the pipeline had died before
    died = threading.Event()

    def watch(step: Step) -> None:
        matched.extend(died.is_set() for d in step.decisions if d.outcome is Outcome.MATCH)
        if matched and not died.is_set():
            died.set()
            raise RuntimeError("something nobody thought of")

    notifier, watchdog = from_environment()
    agent = Agent(
        settings,
        ring,
        displays=[],
        notifier=notifier,
        watchdog=watchdog,
        camera=RecordedCamera(scene_frames(settings, networks().detector, 9.0)),
        watch=watch,
    )
    with agent:
        agent.run(threading.Event(), until_end=True)
        alarms = agent.health.snapshot().alarms
    assert died.is_set()
    assert any(matched), "nobody is recognised after the pipeline came back"
    assert not alarms
