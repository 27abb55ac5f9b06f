"""The scene behaves like a camera, repeats itself for a seed, and tells the truth about itself."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from agent.base.errors import CameraError
from agent.base.values import Box, Frame
from agent.sim.cameras.scene import SceneCamera
from agent.sim.photographs import passengers
from agent.sim.scenery import FACE_PIXELS, Passenger, cut_out
from agent.sim.walks import overlap
from tests.hw.models.networks import networks

SMALL = {"width_pixels": 320, "height_pixels": 240, "pace": "fast"}


def drawn_passenger(key: str, tone: int = 200) -> Passenger:
    """A drawn head and shoulders: most tests need no real face."""
    photograph = np.full((260, 220, 3), (90, 140, 90), np.uint8)
    cv2.rectangle(photograph, (50, 150), (170, 260), (40, 40, tone), cv2.FILLED)
    cv2.ellipse(photograph, (110, 90), (30, 42), 0, 0, 360, (140, 170, 225), cv2.FILLED)
    return Passenger(key, photograph, (82.0, 55.0, 138.0, 130.0))


def queue_of(count: int) -> list[Passenger]:
    return [drawn_passenger(f"p{number}") for number in range(count)]


def opened(people: list[Passenger], **options: object) -> SceneCamera:
    camera = SceneCamera(people, **{**SMALL, **options})  # type: ignore[arg-type]
    camera.open()
    return camera


def all_frames(camera: SceneCamera) -> list[Frame]:
    found = []
    while (frame := camera.read()) is not None:
        found.append(frame)
    return found


def test_the_same_seed_gives_the_same_pictures() -> None:
    first, second = opened(queue_of(3), seed=4), opened(queue_of(3), seed=4)
    for one, other in zip(all_frames(first), all_frames(second), strict=True):
        assert np.array_equal(one.image, other.image)


def test_another_seed_gives_other_pictures() -> None:
    first, second = opened(queue_of(3), seed=4), opened(queue_of(3), seed=5)
    assert not np.array_equal(first.read().image, second.read().image)  # type: ignore[union-attr]


def test_frames_are_pictures_of_the_size_and_clock_asked_for() -> None:
    frames = all_frames(opened(queue_of(1), frames_per_second=20.0))
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}
    assert [frame.t_ms for frame in frames[:4]] == [0, 50, 100, 150]
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert not any(frame.still for frame in frames)


def test_it_ends_after_its_rounds_and_the_clock_runs_on_between_them() -> None:
    camera = opened(queue_of(1), rounds=2)
    frames = all_frames(camera)
    assert len(frames) == 2 * camera.plan.frames
    assert frames[-1].t_ms == round((len(frames) - 1) * 1000 / 15)
    assert camera.read() is None


def test_without_a_number_of_rounds_it_goes_on() -> None:
    camera = opened(queue_of(1), rounds=0)
    for _ in range(camera.plan.frames):
        assert camera.read() is not None
    again = camera.read()
    assert again is not None
    assert again.index == camera.plan.frames


def test_opening_it_again_starts_it_again() -> None:
    camera = opened(queue_of(1))
    first = camera.read()
    camera.close()
    camera.open()
    again = camera.read()
    assert first is not None
    assert again is not None
    assert again.index == 0
    assert np.array_equal(first.image, again.image)


def test_by_the_clock_frames_come_when_their_time_has_come() -> None:
    camera = opened(queue_of(1), pace="clock", frames_per_second=40.0)
    start = time.monotonic()
    for _ in range(9):
        camera.read()
    assert time.monotonic() - start >= 8 / 40 - 0.005


def test_everybody_walks_up_once_and_who_returns_comes_again_at_the_last_stop() -> None:
    camera = opened(queue_of(9), returning=["p4"])
    walks = camera.plan.walks
    assert sorted(walk.key for walk in walks) == sorted([f"p{n}" for n in range(9)] + ["p4"])
    stops = [walk.stop for walk in walks if walk.key == "p4"]
    assert stops == [0, camera.plan.stops - 1]


def test_nobody_is_on_stage_when_the_bus_moves_on() -> None:
    camera = opened(queue_of(9))
    stops = [camera.stop_at(frame) for frame in range(camera.plan.frames)]
    assert stops == sorted(stops)
    assert set(stops) == {0, 1, 2}
    for frame in range(1, camera.plan.frames):
        if stops[frame] != stops[frame - 1]:
            assert camera.faces(frame) == []
            assert camera.faces(frame - 1) == []


def test_two_stand_in_a_queue_and_their_faces_never_cover_each_other() -> None:
    camera = opened(queue_of(9))
    crowds = [camera.faces(frame) for frame in range(camera.plan.frames)]
    assert max(len(crowd) for crowd in crowds) == 2
    pairs = [crowd for crowd in crowds if len(crowd) == 2]
    assert all(overlap(one[1], other[1]) == 0 for one, other in pairs)


def test_a_passenger_comes_nearer_and_leaves_to_the_side() -> None:
    camera = opened(queue_of(1), width_pixels=640, height_pixels=480)
    boxes = [faces[0][1] for n in range(camera.plan.frames) if (faces := camera.faces(n))]
    widths = [x2 - x1 for x1, _, x2, _ in boxes]
    assert widths[0] == pytest.approx(30, abs=2)
    assert 90 <= max(widths) <= 135
    assert boxes[-1][2] > 640 or boxes[-1][0] < 0


def test_it_knows_whose_face_a_box_is() -> None:
    camera = opened(queue_of(2))
    frame = camera.plan.walks[0].first + 20
    for key, (x1, y1, x2, y2) in camera.faces(frame):
        assert camera.who(frame, (x1 + 1, y1 - 1, x2, y2)) == key
    assert camera.who(frame, (0.0, 0.0, 5.0, 5.0)) is None


def test_passengers_may_be_made_when_it_is_opened() -> None:
    camera = SceneCamera(lambda: queue_of(2), **SMALL)  # type: ignore[arg-type]
    camera.open()
    assert {walk.key for walk in camera.plan.walks} == {"p0", "p1"}


def test_without_passengers_it_says_what_to_check() -> None:
    with pytest.raises(CameraError, match=r"no passengers.*kaopass models verify"):
        opened([])


def test_reading_before_it_is_open_is_an_error_and_closing_twice_is_not() -> None:
    camera = SceneCamera(queue_of(1), **SMALL)  # type: ignore[arg-type]
    with pytest.raises(CameraError, match="not open"):
        camera.read()
    camera.close()
    camera.close()


def test_a_cut_out_keeps_the_person_and_drops_what_is_beside_them() -> None:
    figure = cut_out(drawn_passenger("p"))
    alpha = figure.picture[..., 3]
    x, y = (round(value) for value in figure.centre)
    assert alpha[y, x] > 0.98
    assert alpha[y, 3] < 0.02
    assert alpha[y, -4] < 0.02
    assert figure.face[0] == FACE_PIXELS


@pytest.mark.slow
def test_the_truth_agrees_with_the_real_detector_on_real_faces() -> None:
    detector = networks().detector
    camera = SceneCamera(passengers(detector), pace="fast", seed=1)
    camera.open()
    overlaps = []
    for number in range(camera.plan.frames):
        frame = camera.read()
        truth = [box for _, box in camera.faces(number) if _near_and_inside(box)]
        if number % 11 or not truth or frame is None:
            continue
        found = [face.box for face in detector.detect(frame.image)]
        overlaps += [max((overlap(box, other) for other in found), default=0.0) for box in truth]
    assert len(overlaps) > 25
    assert np.mean(np.array(overlaps) > 0.6) > 0.95


def _near_and_inside(box: Box) -> bool:
    return box[2] - box[0] > 60 and box[0] > 0 and box[2] < 640
