"""Whatever a camera gives, the line answers rightly or says what is wrong; it never crashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from agent.base.errors import CameraError
from agent.base.values import Face, Frame, Image
from agent.door.recogniser import Recogniser
from agent.hw.cameras.shared.pictures import LiveNumbers, as_bgr
from agent.recognition.templates import TemplateSet
from agent.settings.model import load
from agent.sim.photographs import read_picture
from agent.vision.colour import ColourWatch, redness
from agent.wiring.parts import Networks, recogniser
from tests import second_pack
from tests.line.door import networks, people_of

SETTINGS = load(None, {"models": {"licence": "research"}, "liveness": {"mode": "off"}})
PACKS = pytest.mark.parametrize("pack", [networks, second_pack.networks], ids=["first", "second"])


def line(picture: str = "t1.jpg", pack: Callable[[], Networks] = networks) -> Recogniser:
    """The whole line with the people of a photograph enrolled."""
    people = TemplateSet.build((name, rows) for name, rows in people_of(picture, pack).items())
    return recogniser(SETTINGS, pack(), people)


def named(watcher: Recogniser, *images: Image) -> set[str]:
    found = set()
    for number, image in enumerate(images):
        step = watcher.process(Frame(image, number, number * 66, number * 66))
        found |= {d.person for d in step.decisions if d.person is not None}
    watcher.finish()
    return found


def noise(height: int = 480, width: int = 640) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((480, 640, 3), np.uint8),
        np.full((480, 640, 3), 255, np.uint8),
        noise(),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((1, 4000, 3), np.uint8),
        np.zeros((4000, 20, 3), np.uint8),
        noise(17, 33),
    ],
    ids=["black", "white", "noise", "1x1", "a row", "a column", "tiny"],
)
@PACKS
def test_a_picture_without_people_names_nobody(image: Image, pack: Callable[[], Networks]) -> None:
    assert named(line(pack=pack), *[image] * 4) == set()


@pytest.mark.slow
@PACKS
def test_people_are_named_right_in_12_megapixels(pack: Callable[[], Networks]) -> None:
    large = cv2.resize(read_picture("t1.jpg"), (4000, 3000)).astype(np.uint8)
    assert len(named(line(pack=pack), *[large] * 3)) >= 5


@pytest.mark.slow
@PACKS
def test_forty_faces_in_one_frame_are_all_seen_and_nobody_is_taken_for_another(
    pack: Callable[[], Networks],
) -> None:
    crowd = read_picture("t1.jpg")[50:490]
    crowd = np.vstack([crowd, crowd[:, ::-1]] * 4)[:, :, :].astype(np.uint8)
    faces = pack().detector.detect(crowd)
    assert len(faces) >= 40
    watcher = line("players.jpg", pack)
    assert named(watcher, *[crowd] * 4) == set(), "none of them is enrolled"
    assert named(line(pack=pack), *[crowd] * 12) <= set(people_of("t1.jpg", pack))


@pytest.mark.slow
@PACKS
def test_swapped_colours_name_no_stranger(pack: Callable[[], Networks]) -> None:
    blue = np.ascontiguousarray(read_picture("t1.jpg")[:, :, ::-1])
    assert named(line(pack=pack), *[blue] * 3) <= set(people_of("t1.jpg", pack))
    assert named(line("players.jpg", pack), *[blue] * 3) == set()


def test_swapped_colours_are_noticed() -> None:
    image = read_picture("t1.jpg")
    blue = np.ascontiguousarray(image[:, :, ::-1])
    for shown, swapped in ((image, False), (blue, True)):
        watch = ColourWatch()
        for number, face in enumerate(networks().detector.detect(image)):
            for _ in range(4):
                watch.saw(number, shown, face)
        assert watch.swapped is swapped


def test_grey_pictures_and_one_person_alone_are_no_colour_alarm() -> None:
    grey = np.full((100, 100, 3), 120, np.uint8)
    blue = np.zeros((100, 100, 3), np.uint8)
    blue[:, :, 0] = 200
    face = Face((10.0, 10.0, 90.0, 90.0), 0.9, np.zeros((5, 2), np.float32))
    watch = ColourWatch()
    for number in range(60):
        watch.saw(number, grey, face)
        watch.forget(number)
    assert not watch.swapped
    alone = ColourWatch()
    for _ in range(60):
        alone.saw(1, blue, face)
    assert not alone.swapped
    outside = Face((-90.0, -90.0, -10.0, -10.0), 0.9, np.zeros((5, 2), np.float32))
    assert redness(blue, outside) == 0.0


@pytest.mark.parametrize(
    ("given", "pixel"),
    [
        (np.full((4, 6), 90, np.uint8), [90, 90, 90]),
        (np.full((4, 6, 1), 90, np.uint8), [90, 90, 90]),
        (np.full((4, 6, 4), (10, 20, 30, 255), np.uint8), [10, 20, 30]),
        (np.full((4, 6, 3), (2560, 5120, 7680), np.uint16), [10, 20, 30]),
        (np.full((4, 6), 65535, np.uint16), [255, 255, 255]),
        (np.full((4, 6, 3), 0.5, np.float32), [127, 127, 127]),
    ],
    ids=["grey", "grey with an axis", "BGRA", "16 bit", "16 bit grey", "floats"],
)
def test_what_a_driver_may_give_becomes_bgr(given: Any, pixel: list[int]) -> None:
    image = LiveNumbers(0).frame(given).image
    assert image.dtype == np.uint8
    assert image.shape == (4, 6, 3)
    assert image[2, 3].tolist() == pixel


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((4, 6, 2), np.uint8),  # YUYV that nobody converted
        np.zeros((0, 0, 3), np.uint8),
        np.zeros((4, 6, 3), np.int32),
        np.zeros(24, np.uint8),
    ],
    ids=["two channels", "empty", "wide numbers", "one row of bytes"],
)
def test_what_is_no_picture_is_named_instead_of_guessed(given: Any) -> None:
    with pytest.raises(CameraError, match="gives"):
        as_bgr(given)
