"""The liveness network's adapter: its crops, its answers on real pictures, and wrong files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from agent.base.errors import ModelError
from agent.base.values import Face, Image, Vector
from agent.hw.models.networks.liveness import (
    LEAST_WIDE,
    SIDE_PIXELS,
    FacepluginLiveness,
    crop,
    wide_reach,
)
from agent.packs.store import locate
from agent.sim.attacks import attack_clip, subjects
from agent.wiring.parts import open_liveness
from tests.liveness_pack import models_directory, networks, settings

LANDMARKS = np.zeros((5, 2), np.float32)


def face(x1: float, y1: float, x2: float, y2: float) -> Face:
    return Face((x1, y1, x2, y2), 0.9, LANDMARKS)


def gradient(width: int, height: int) -> Image:
    """Blue tells the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return np.dstack([x % 256, y % 256, np.zeros_like(x)]).astype(np.uint8)


def test_a_crop_is_a_square_about_the_middle_of_the_face() -> None:
    picture = gradient(256, 256)
    cut = crop(picture, face(96, 80, 160, 176), 4 / 3)  # the longer side, 96, times 4/3 = 128
    assert cut.shape == (SIDE_PIXELS, SIDE_PIXELS, 3)
    assert np.array_equal(cut, picture[64:192, 64:192])


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    picture = gradient(128, 128)
    cut = crop(picture, face(0, 0, 128, 128), 2.0)
    assert (cut[:20, :20] == cut[0, 0]).all()
    assert (cut[-20:, -20:] == cut[-1, -1]).all()
    assert cut[0, 0].max() <= 2
    assert cut[-1, -1, 0] >= 125


def test_a_large_face_is_shrunk_without_a_moire_of_its_own() -> None:
    lines = np.zeros((900, 900, 3), np.uint8)
    lines[:, ::2] = 255
    cut = crop(lines, face(200, 200, 700, 700), 1.5)
    assert cut.std() < 12


@pytest.mark.parametrize(
    ("size", "reach"), [((640, 480), 2.7), ((250, 250), 2.35), ((120, 120), LEAST_WIDE)]
)
def test_the_widest_crop_goes_as_far_as_there_is_picture(
    size: tuple[int, int], reach: float
) -> None:
    middle = size[0] / 2, size[1] / 2
    box = face(middle[0] - 52, middle[1] - 52, middle[0] + 52, middle[1] + 52)
    assert wide_reach(gradient(*size), box) == reach


@pytest.mark.slow
def test_people_score_higher_than_their_pictures_held_up() -> None:
    model = networks().liveness
    assert model is not None
    people = subjects(networks().detector, ("t1.jpg",))
    live = [float(model.log_odds(p.photograph, [p.face])[0]) for p in people]
    held = []
    for person in people:
        (frame,) = attack_clip("print_held", person, frames=1)
        found = networks().detector.detect(frame.image)
        held.append(float(model.log_odds(frame.image, found[:1])[0]))
    assert min(live) > max(held)
    assert min(live) > 0


def test_red_and_blue_swapped_is_not_taken_for_alive() -> None:
    model = networks().liveness
    assert model is not None
    people = subjects(networks().detector, ("t1.jpg",))
    right = [float(model.log_odds(p.photograph, [p.face])[0]) for p in people]
    swapped = [
        float(model.log_odds(np.ascontiguousarray(p.photograph[:, :, ::-1]), [p.face])[0])
        for p in people
    ]
    assert np.mean(right) > np.mean(swapped) + 1


@pytest.mark.slow
def test_odd_pictures_have_an_answer() -> None:
    """Noise, black, one row of pixels, a face far outside: finite, whatever it is."""
    model = networks().liveness
    assert model is not None
    rng = np.random.default_rng(0)
    for picture, box in (
        (rng.integers(0, 256, (200, 200, 3)).astype(np.uint8), face(50, 50, 150, 150)),
        (np.zeros((200, 200, 3), np.uint8), face(50, 50, 150, 150)),
        (np.full((1, 300, 3), 90, np.uint8), face(10, 0, 20, 1)),
        (gradient(100, 100), face(-500, -500, -400, -400)),
        (gradient(100, 100), face(5, 5, 5, 5)),
        (gradient(4000, 3000), face(100, 100, 2900, 2900)),
    ):
        found = model.log_odds(picture, [box])
        assert found.shape == (1,)
        assert found.dtype == np.float32
        assert abs(float(found[0])) <= 6.0
    assert model.log_odds(gradient(10, 10), []).shape == (0,)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 2])
def test_outputs_that_are_not_numbers_are_an_error_and_not_somebodys_end(
    broken: float, place: int
) -> None:
    class Broken:
        def get_inputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="in", shape=[1, 3, SIDE_PIXELS, SIDE_PIXELS])]

        def get_outputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name="out", shape=[1, 3])]

        def run(self, names: object, feed: object) -> list[Vector]:
            del names, feed
            logits = np.array([[1.0, 0.0, -1.0]], np.float32)
            logits[0, place] = broken
            return [logits]

    model = FacepluginLiveness(
        Path("fr_liveness.onnx"),
        pack="faceplugin",
        threads=1,
        provider="cpu",
        opener=lambda *_: Broken(),
    )
    with pytest.raises(ModelError, match=r"fr_liveness\.onnx: its output is not numbers"):
        model.log_odds(gradient(200, 200), [face(50, 50, 150, 150)])


def test_another_kind_of_network_is_refused() -> None:
    directory = models_directory()
    path = directory / "faceplugin" / "fr_feature.onnx"
    with pytest.raises(ModelError, match="no liveness network"):
        FacepluginLiveness(path, pack="faceplugin", threads=1, provider="cpu")


def test_without_the_pack_it_says_what_to_run(tmp_path: Path) -> None:
    given = settings(tmp_path)
    nowhere = given.model_copy(
        update={"models": given.models.model_copy(update={"directory": tmp_path})}
    )
    with pytest.raises(ModelError, match="run: kaopass models install faceplugin"):
        open_liveness(nowhere)


def test_a_truncated_network_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "faceplugin"
    copy.mkdir()
    for path in (models_directory() / "faceplugin").glob("*.onnx"):
        data = path.read_bytes()
        (copy / path.name).write_bytes(data[:-9] if path.name == "fr_liveness.onnx" else data)
    given = settings(tmp_path)
    there = given.model_copy(
        update={"models": given.models.model_copy(update={"directory": tmp_path})}
    )
    with pytest.raises(ModelError, match=r"fr_liveness\.onnx: truncated"):
        open_liveness(there)


def test_a_pack_without_such_a_network_is_no_liveness_pack(tmp_path: Path) -> None:
    given = settings(tmp_path)
    other = given.model_copy(
        update={"liveness": given.liveness.model_copy(update={"pack": "buffalo_s"})}
    )
    with pytest.raises(ModelError, match=r"has no liveness network; these have: .*faceplugin"):
        open_liveness(other)
    assert locate("buffalo_s", tmp_path, "research").paths.keys() == {"detector", "embedder"}


def test_the_crop_of_a_real_face_shows_it() -> None:
    person = subjects(networks().detector)[0]
    cut = cv2.resize(crop(person.photograph, person.face, 2.0), (320, 320))
    assert len(networks().detector.detect(cut.astype(np.uint8))) >= 1
