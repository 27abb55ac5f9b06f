"""The camera's own liveness threshold: chosen from live faces, kept, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.base.errors import ModelError, UsageError
from agent.vision.threshold import CameraThreshold, choose, load, save


def test_at_most_the_stated_share_of_live_faces_is_refused() -> None:
    scores = [0.30, 0.55, *[0.7 + n / 1000 for n in range(38)]]
    found = choose("pack", scores, 0.05)
    assert sum(score < found.threshold for score in scores) == 2
    assert found.live == 40


def test_from_few_faces_none_is_refused() -> None:
    scores = [0.61239, 0.8, 0.9, 0.7, 0.95]
    found = choose("pack", scores, 0.05)
    assert found.threshold == 0.6123
    assert all(score >= found.threshold for score in scores)


@pytest.mark.parametrize("worst", [0.0, 1e-4, 0.1, 0.2499])
def test_a_threshold_at_which_photographs_pass_is_refused(worst: float) -> None:
    with pytest.raises(UsageError, match=rf"threshold {worst:.4f}; below 0.25 .* from 20 on"):
        choose("pack", [worst, *[0.9] * 9], 0.05)
    with pytest.raises(UsageError, match="--bpcer above 0"):
        choose("pack", [worst, *[0.9] * 9], 0.0)
    assert choose("pack", [worst, *[0.9] * 19], 0.05).threshold == 0.9


def test_the_least_threshold_is_kept_and_comes_back(tmp_path: Path) -> None:
    found = choose("pack", [0.25, *[0.9] * 9], 0.05)
    save(tmp_path / "liveness.json", found)
    assert load(tmp_path / "liveness.json", "pack") == found


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.2])
def test_a_kept_threshold_at_which_photographs_pass_is_not_used(
    tmp_path: Path, threshold: float
) -> None:
    path = tmp_path / "liveness.json"
    save(path, CameraThreshold("faceplugin", threshold, 0.05, 10))
    with pytest.raises(ModelError, match="photographs pass; run `kaopass liveness calibrate`"):
        load(path, "faceplugin")


def test_four_faces_say_nothing_about_a_camera() -> None:
    with pytest.raises(UsageError, match="4 live faces are too few"):
        choose("pack", [0.9] * 4, 0.05)


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "liveness.json"
    found = CameraThreshold("faceplugin", 0.4321, 0.05, 31)
    save(path, found)
    assert load(path, "faceplugin") == found
    assert [entry.name for entry in path.parent.iterdir()] == ["liveness.json"]


def test_without_a_file_there_is_no_camera_threshold(tmp_path: Path) -> None:
    assert load(tmp_path / "liveness.json", "faceplugin") is None


def test_another_packs_threshold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "liveness.json"
    save(path, CameraThreshold("other", 0.4, 0.05, 31))
    with pytest.raises(ModelError, match="was found for liveness pack 'other'"):
        load(path, "faceplugin")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"pack": "faceplugin"}',
        '{"pack": "faceplugin", "threshold": "x", "bpcer": 0, "live": 5}',
        '{"pack": "faceplugin", "threshold": -3, "bpcer": 0, "live": 5}',
        '{"pack": "faceplugin", "threshold": NaN, "bpcer": 0, "live": 5}',
    ],
)
def test_a_damaged_file_does_not_open_the_door(tmp_path: Path, text: str) -> None:
    path = tmp_path / "liveness.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="kaopass liveness calibrate"):
        load(path, "faceplugin")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be written"):
        save(tmp_path / "file" / "liveness.json", CameraThreshold("p", 0.5, 0.05, 9))
