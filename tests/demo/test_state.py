"""What the page is told: the words of the signal, the figures, the table, the picture."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from agent.base.values import DoorSignal, Image
from agent.demo.annotate import Mark
from agent.demo.state import DemoState, Figures, Row

PERSON = "0123456789abcdef" * 4


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def noisy(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (120, 160, 3)).astype(np.uint8)


def decoded(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8)


def test_a_notice_is_shown_with_colour_icon_and_words_in_both_languages() -> None:
    state = DemoState()
    state.show(DoorSignal("fallback"), None)
    told = state.snapshot()
    assert told["colour"] == "amber"
    assert told["icon"] == "△"
    assert told["ja"] == "いつもの方法でご乗車ください"
    assert told["en"] == "Please board as usual"


def test_a_passing_notice_gives_way_to_ready() -> None:
    clock = Clock()
    state = DemoState(show_seconds=2.0, monotonic=clock)
    state.show(DoorSignal("welcome"), None)
    clock.now += 1.9
    assert state.snapshot()["signal"] == "welcome"
    clock.now += 0.2
    assert state.snapshot()["signal"] == "ready"


def test_out_of_service_stays_until_the_door_is_ready_again() -> None:
    clock = Clock()
    state = DemoState(show_seconds=2.0, monotonic=clock)
    state.show(DoorSignal("out_of_service"), None)
    clock.now += 60
    assert state.snapshot()["signal"] == "out_of_service"
    state.show(DoorSignal("ready"), None)
    assert state.snapshot()["signal"] == "ready"


def test_two_notices_of_one_kind_are_told_apart() -> None:
    state = DemoState()
    state.show(DoorSignal("fallback"), None)
    first = state.snapshot()["number"]
    state.show(DoorSignal("fallback"), None)
    assert state.snapshot()["number"] != first


def test_the_table_is_shown_with_shortened_pseudonyms_and_can_be_sent_as_json() -> None:
    state = DemoState(broker="mosquitto")
    state.set_table([Row("bus-1", n, "boarding", "前", 1000, PERSON) for n in range(300, 0, -1)])
    state.set_figures(Figures(frames=7, sync="connected"))
    told = json.loads(json.dumps(state.snapshot()))
    assert len(told["rows"]) == 100
    assert told["rows"][0]["seq"] == 300
    assert PERSON not in json.dumps(told)
    assert told["rows"][0]["person"] == PERSON[:8]
    assert told["figures"]["frames"] == 7
    assert told["liveness"] is False


def test_before_the_first_frame_there_is_no_picture() -> None:
    assert DemoState().jpeg(hidden=False) == (0, b"")


def test_the_picture_is_a_jpeg_of_the_newest_frame_and_encoded_once() -> None:
    state = DemoState()
    state.show_frame(noisy(), [])
    state.show_frame(noisy(1), [])
    number, data = state.jpeg(hidden=False)
    assert number == 2
    assert decoded(data).shape == (120, 160, 3)
    assert state.jpeg(hidden=False)[1] is data


@pytest.mark.parametrize("given", ["mark", "truth"])
def test_hidden_faces_are_hidden_whether_detected_or_only_known(given: str) -> None:
    box = (40.0, 30.0, 100.0, 100.0)
    marks, faces = ([Mark(box, "x", "waiting")], []) if given == "mark" else ([], [box])
    state = DemoState()
    state.show_frame(noisy(), marks, faces)
    middle = slice(60, 80), slice(60, 80)
    spread_shown = decoded(state.jpeg(hidden=False)[1])[middle].std()
    spread_hidden = decoded(state.jpeg(hidden=True)[1])[middle].std()
    assert spread_hidden < spread_shown / 3


def test_a_face_lost_for_one_frame_stays_hidden() -> None:
    state = DemoState()
    state.show_frame(noisy(), [Mark((40.0, 30.0, 100.0, 100.0), "x", "waiting")])
    state.show_frame(noisy(1), [])
    assert decoded(state.jpeg(hidden=True)[1])[60:80, 60:80].std() < 30
