"""Each limit of the quality gate rejects what it should, and says which limit it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from agent.base.values import Face, Image
from agent.vision.quality import QualityGate, cut_share, yaw_ratio

GATE = QualityGate(
    min_face_pixels=28, min_sharpness=15, min_brightness=25, max_brightness=235, max_yaw=0.6
)


def texture(mean: float = 128.0, spread: float = 40.0, blur: float = 0.0) -> Image:
    """Structure at every scale, as a face has it; *blur* in pixels takes the fine part away."""
    rng = np.random.default_rng(7)
    layers = []
    for scale in (2.0, 6.0, 18.0):
        layer = cv2.GaussianBlur(rng.normal(0, 1, (240, 320, 3)), (0, 0), scale)
        layers.append(layer / layer.std())
    whole = np.sum(layers, axis=0)
    image = np.asarray(cv2.GaussianBlur(whole, (0, 0), blur) if blur else whole)
    found: Image = np.clip(mean + spread * image / image.std(), 0, 255).astype(np.uint8)
    return found


def face(x: float = 100, y: float = 60, width: float = 80, nose: float = 0.0) -> Face:
    """A frontal face; *nose* moves the nose sideways in eye distances."""
    eye = width * 0.4
    middle = x + width / 2
    points = [
        (middle - eye / 2, y + width * 0.4),
        (middle + eye / 2, y + width * 0.4),
        (middle + nose * eye, y + width * 0.65),
        (middle - eye / 2.5, y + width * 0.9),
        (middle + eye / 2.5, y + width * 0.9),
    ]
    return Face((x, y, x + width, y + width * 1.2), 0.8, np.array(points, dtype=np.float32))


def test_a_good_view_is_usable_and_scored() -> None:
    quality = GATE.judge(texture(), face())
    assert quality.usable
    assert 0.2 < quality.score <= 1.0


@pytest.mark.parametrize(
    ("image", "seen", "reason"),
    [
        (texture(), face(width=20), "too_small"),
        (texture(), face(x=290, width=60), "cut_off"),
        (texture(), face(nose=0.8), "turned_away"),
        (texture(mean=10, spread=4), face(), "too_dark"),
        (texture(mean=250, spread=2), face(), "too_bright"),
        (texture(blur=14.0), face(), "blurred"),
    ],
)
def test_each_limit_names_itself(image: Image, seen: Face, reason: str) -> None:
    assert GATE.judge(image, seen).reason == reason


def test_a_sharper_larger_or_more_frontal_view_scores_higher() -> None:
    image = texture()
    best = GATE.judge(image, face(width=100, x=60, y=20)).score
    assert best > GATE.judge(image, face(width=50)).score
    assert best > GATE.judge(image, face(width=100, x=60, y=20, nose=0.4)).score
    assert best > GATE.judge(texture(blur=2.5), face(width=100, x=60, y=20)).score


def test_tilting_the_head_is_not_turning_it() -> None:
    upright = face(nose=0.1)
    centre = upright.landmarks.mean(axis=0)
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilted = Face(upright.box, 0.8, ((upright.landmarks - centre) @ turn.T + centre).astype("f4"))
    assert yaw_ratio(tilted) == pytest.approx(yaw_ratio(upright), abs=1e-3)


def test_eyes_on_one_point_count_as_turned_away_not_as_an_error() -> None:
    collapsed = Face((0, 0, 50, 60), 0.9, np.zeros((5, 2), dtype=np.float32))
    assert GATE.judge(texture(), collapsed).reason == "turned_away"


def test_cut_share_is_the_part_outside() -> None:
    assert cut_share(texture(), face(x=-40, y=0, width=80)) == pytest.approx(0.5)
    assert cut_share(texture(), face()) == pytest.approx(0.0)
