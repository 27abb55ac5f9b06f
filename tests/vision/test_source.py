"""The camera thread: newest frame only, reopened when lost, files paced and complete."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from agent.base.errors import CameraError, CameraStuckError
from agent.base.values import Frame
from agent.vision.source import STOP_SECONDS, NewestFrame, Pace
from tests.waiting import LATE_SECONDS, returns, until


def frame(index: int, t_ms: int = 0) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), index, t_ms, 0)


class Script:
    """A camera that acts out *steps* at each read: a frame, None for the end, an error, or a call.

    *openings* are what happens at each ``open()``; after the last one it always succeeds.
    """

    def __init__(
        self,
        steps: list[Frame | Exception | Callable[[], object] | None],
        openings: list[Exception | None] | None = None,
    ) -> None:
        self._steps = list(steps)
        self._openings = list(openings or [])
        self.opened_at: list[float] = []
        self.closed = 0

    @property
    def opened(self) -> int:
        return len(self.opened_at)

    def open(self) -> None:
        self.opened_at.append(time.monotonic())
        outcome = self._openings.pop(0) if self._openings else None
        if outcome is not None:
            raise outcome

    def read(self) -> Frame | None:
        while True:
            step = self._steps.pop(0) if self._steps else None
            if isinstance(step, Exception):
                raise step
            if not callable(step):
                return step
            step()

    def close(self) -> None:
        self.closed += 1


@contextmanager
def running(camera: Script, pace: Pace, **given: float) -> Iterator[NewestFrame]:
    source = NewestFrame(camera, pace=pace, **given)
    source.start()
    try:
        yield source
    finally:
        assert source.stop()


def all_of(source: NewestFrame) -> list[int]:
    indices = []
    while (got := source.get(LATE_SECONDS)) is not None:
        indices.append(got.index)
    return indices


# Live


def test_only_the_newest_frame_is_kept_and_the_others_are_counted() -> None:
    gate = threading.Event()
    camera = Script([frame(n) for n in range(5)] + [gate.wait])
    with running(camera, "live") as source:
        until(lambda: source.counters.frames == 5)
        got = source.get(LATE_SECONDS)
        assert got is not None
        assert got.index == 4
        assert source.counters.dropped == 4
        assert source.get(0.01) is None
        assert source.state == "running"
        gate.set()


def test_a_lost_camera_is_opened_again_and_logged_once_each_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = threading.Event()
    camera = Script(
        [frame(0), CameraError("unplugged"), frame(1), gate.wait],
        openings=[None, CameraError("not there"), CameraError("still not there"), None],
    )
    with caplog.at_level(logging.INFO), running(camera, "live", reopen_min_seconds=0.01) as source:
        until(lambda: source.counters.frames == 2)
        assert source.state == "running"
        assert source.counters.reopens == 1
        gate.set()
    assert camera.opened >= 4
    messages = [record.getMessage() for record in caplog.records[:2]]
    assert messages[0] == "camera lost, trying again until it is back: unplugged"
    assert messages[1] == "camera is back"


def test_a_camera_missing_at_the_start_is_waited_for() -> None:
    gate = threading.Event()
    camera = Script([frame(0), gate.wait], openings=[CameraError("no camera")] * 3)
    with running(camera, "live", reopen_min_seconds=0.01) as source:
        assert source.state in ("opening", "lost", "running")
        got = source.get(LATE_SECONDS)
        assert got is not None
        assert source.state == "running"
        gate.set()


def assert_waits(camera: Script, *seconds: float) -> None:
    """Each opening came no sooner than that after the one before it."""
    gaps = [later - before for before, later in pairwise(camera.opened_at)]
    assert all(gap >= least for gap, least in zip(gaps, seconds, strict=False)), gaps


def test_the_wait_doubles_up_to_its_limit() -> None:
    """A dead camera is tried again no sooner than after 10, 20, 40 and 40 ms."""
    camera = Script([], openings=[CameraError("dead")] * 1000)
    with running(camera, "live", reopen_min_seconds=0.01, reopen_max_seconds=0.04) as source:
        until(lambda: camera.opened >= 5)
        assert source.state == "lost"
    assert_waits(camera, 0.01, 0.02, 0.04, 0.04)


def test_a_camera_that_opens_but_stays_dark_is_not_tried_faster_and_faster() -> None:
    camera = Script([CameraError("no frame")] * 1000)
    with running(camera, "live", reopen_min_seconds=0.01, reopen_max_seconds=0.5) as source:
        until(lambda: camera.opened >= 5)
        assert source.counters.reopens == 0
    assert_waits(camera, 0.01, 0.02, 0.04, 0.08)


def test_a_live_stream_that_ends_is_a_loss() -> None:
    camera = Script([frame(0), None, frame(1), frame(2)])
    with running(camera, "live", reopen_min_seconds=0.005) as source:
        until(lambda: source.counters.frames == 3)
        assert source.counters.reopens >= 1


def test_a_camera_that_no_try_brings_back_is_an_error_for_the_reader() -> None:
    camera = Script([CameraError("unplugged")], openings=[None, CameraStuckError("hangs")])
    with running(camera, "live", reopen_min_seconds=0.01) as source:
        until(lambda: source.state == "ended")
        with pytest.raises(CameraStuckError, match="hangs"):
            source.get(LATE_SECONDS)
    assert camera.opened == 2


def test_stopping_during_a_long_wait_is_quick() -> None:
    camera = Script([], openings=[CameraError("dead")] * 9)
    source = NewestFrame(camera, pace="live", reopen_min_seconds=600.0, reopen_max_seconds=600.0)
    source.start()
    until(lambda: source.state == "lost")
    assert source.stop()
    assert source.state == "ended"
    assert source.get(0.01) is None


@pytest.mark.slow
def test_a_driver_that_hangs_holds_stop_up_for_two_seconds_and_no_longer() -> None:
    gate = threading.Event()
    source = NewestFrame(Script([gate.wait]), pace="live")
    source.start()
    began = time.monotonic()
    assert not returns(source.stop)
    assert time.monotonic() - began >= STOP_SECONDS
    gate.set()
    assert source.stop()


def test_a_defect_in_an_adapter_reaches_the_reader() -> None:
    """A camera thread that died must not look like a camera that sees nobody."""
    with running(Script([frame(0), ZeroDivisionError("a defect")]), "live") as source:
        until(lambda: source.state == "ended")
        got = source.get(LATE_SECONDS)
        assert got is not None
        with pytest.raises(ZeroDivisionError):
            source.get(LATE_SECONDS)


# Files


def test_as_fast_as_possible_no_frame_is_dropped_however_slow_the_reader() -> None:
    camera = Script([frame(n, t_ms=n * 1000) for n in range(20)])
    with running(camera, "fast") as source:
        until(lambda: source.counters.frames == 1)
        assert all_of(source) == list(range(20))
        assert source.state == "ended"
        assert source.counters.dropped == 0
    assert camera.closed >= 1
    assert camera.opened == 1


def test_by_the_clock_a_frame_comes_when_its_time_has_come() -> None:
    """Not at once, and not by the stamp of the first, which would be days."""
    camera = Script([frame(0, 500_000_000), frame(1, 500_000_060), frame(2, 500_000_160)])
    began_ms = int(time.monotonic() * 1000)
    with running(camera, "clock") as source:
        stamps = []
        while (got := source.get(LATE_SECONDS)) is not None:
            assert began_ms <= got.mono_ms <= time.monotonic() * 1000
            stamps.append(got.mono_ms)
    # The newest is kept: a busy machine may miss one between, but none comes early.
    waits = [after - stamps[0] for after in stamps[1:]]
    assert 0 < len(waits) <= 2
    assert waits[-1] >= 159
    assert waits[0] >= 59


def test_by_the_clock_a_slow_reader_gets_the_newest_and_always_the_last() -> None:
    camera = Script([frame(n, n * 5) for n in range(20)])
    with running(camera, "clock") as source:
        until(lambda: source.state == "ended")
        assert all_of(source) == [19]
        assert source.counters.dropped == 19


def test_stopping_does_not_wait_for_the_next_frame_of_a_slow_film() -> None:
    source = NewestFrame(Script([frame(0, 0), frame(1, 600_000)]), pace="clock")
    source.start()
    assert source.get(LATE_SECONDS) is not None
    assert source.stop()


def test_stopping_does_not_wait_for_a_reader_that_left() -> None:
    source = NewestFrame(Script([frame(0), frame(1), frame(2)]), pace="fast")
    source.start()
    until(lambda: source.counters.frames == 1)
    assert source.stop()


def test_a_file_that_cannot_be_opened_is_an_error_for_the_reader() -> None:
    camera = Script([], openings=[CameraError("no such file")])
    with running(camera, "fast") as source:
        with pytest.raises(CameraError, match="no such file"):
            source.get(LATE_SECONDS)
        assert source.state == "ended"
    assert camera.opened == 1


@pytest.mark.parametrize("pace", ["fast", "clock"])
def test_a_damaged_file_gives_its_good_frames_first(pace: Pace) -> None:
    gate = threading.Event()
    camera = Script([frame(0), gate.wait, CameraError("cut off")])
    with running(camera, pace) as source:
        assert source.get(LATE_SECONDS) is not None
        gate.set()
        with pytest.raises(CameraError, match="cut off"):
            source.get(LATE_SECONDS)


def test_a_source_never_started_can_be_stopped() -> None:
    assert NewestFrame(Script([])).stop()
