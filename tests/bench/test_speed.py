"""The benchmarks measure what they say, and the line keeps its ratios with room to spare."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.base.values import (
    Decision,
    DoorSignal,
    Face,
    Frame,
    Outcome,
    Quality,
    TrackedFace,
    Tracks,
)
from agent.bench.board import Machine, bench_settings, gallery_room, percentile, scene_frames
from agent.bench.door import Stopwatch
from agent.bench.match import half_product, time_half, time_search
from agent.bench.start import gallery_of, start_once
from agent.bench.vision import measure, strangers
from agent.cli.bench.vision import command
from agent.door.recogniser import Step
from agent.sim.recorded import RecordedCamera
from tests.events import stored
from tests.line.door import networks


@pytest.mark.slow
def test_the_line_is_timed_beside_its_model_calls() -> None:
    found = measure(bench_settings(None), seconds=4)
    assert found.frames == 60
    assert found.embeddings > 10
    assert found.ratio > 0  # how much it is, the benchmark tells: a test machine has other work


def test_a_search_is_timed_beside_one_product_and_half_floats_answer_the_same() -> None:
    town = strangers(5000)
    found = time_search(town, 15)
    assert found.people == 5000
    assert found.ratio > 0
    half = time_half(town, 5)
    assert half.same_answers == 1.0
    assert half.largest_error < 1e-3


def test_the_product_in_half_floats_covers_every_row() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(9001, 8)).astype(np.float16)
    probe = rng.normal(size=8).astype(np.float32)
    assert np.allclose(half_product(matrix, probe), matrix.astype(np.float32) @ probe, atol=1e-5)


def test_made_up_people_are_each_their_own_and_of_length_one() -> None:
    town = strangers(300, 3)
    assert len(town.ids) == 300
    assert town.matrix.shape == (900, 512)
    assert np.allclose(np.linalg.norm(town.matrix, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_the_agent_starts_on_the_made_gallery_and_its_memory_is_told() -> None:
    with gallery_of(50, 2) as state:
        found = start_once(state, 50, 2, cold=True)
    assert found.decisions_possible
    assert found.seconds > 0.1
    assert 50 < found.resident_mb <= found.peak_mb + 50
    assert not state.exists(), "the made gallery is removed"


def test_the_stopwatch_runs_from_the_first_usable_view_to_the_lamp() -> None:
    watch = Stopwatch()
    face = Face((0.0, 0.0, 50.0, 50.0), 0.9, np.zeros((5, 2), np.float32))
    image = np.zeros((4, 4, 3), np.uint8)

    def step(number: int, mono_ms: int, quality: Quality, *decisions: Decision) -> Step:
        frame = Frame(image, number, 0, mono_ms)
        return Step(Tracks(frame, (TrackedFace(7, face, quality),), ()), decisions)

    watch.watch(step(0, 1_000, Quality(0.0, "blurred")))
    watch.watch(step(1, 2_000, Quality(0.5)))
    watch.show(DoorSignal("fallback"), None)
    watch.show(DoorSignal("welcome"), stored(1))
    match = Decision(7, 2, 0, 2_100, face.box, Outcome.MATCH, "ann", 0.7, "recognised")
    watch.watch(step(2, 2_100, Quality(0.5), match))
    assert len(watch.milliseconds) == 1
    assert watch.milliseconds[0] > 0


def test_the_scene_in_memory_plays_from_its_beginning_each_time() -> None:
    frames = scene_frames(bench_settings(None), networks().detector, 0.5)
    camera = RecordedCamera(frames)
    for _ in range(2):
        camera.open()
        indices = []
        while (frame := camera.read()) is not None:
            indices.append(frame.index)
        assert indices == list(range(len(frames)))


def test_a_gallery_is_bounded_by_the_search_and_by_the_memory() -> None:
    assert gallery_room(Machine(4, 100_000, 0.0), ms_search=10.0) == 127_000
    assert gallery_room(Machine(4, 400, 0.0), ms_search=1.0) == 51_000


def test_percentiles_of_nothing_are_not_numbers() -> None:
    assert np.isnan(percentile([], 50))
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


@pytest.mark.slow
def test_json_holds_the_ratio_and_the_board(tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('[models]\nlicence = "research"\ndetector_input_pixels = 320\n')
    done = CliRunner().invoke(
        command, ["--seconds", "1", "--json", "--settings", str(settings)], catch_exceptions=False
    )
    found = json.loads(done.output)
    assert found["bench"] == "vision"
    assert found["ratio"] > 0
    assert found["decision_seconds"] >= 3 / 15, "three views at the camera's rate"
    assert found["gallery_up_to"] % 1000 == 0
    assert found["board"]["cores"] == len(os.sched_getaffinity(0))
