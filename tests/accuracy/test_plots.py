"""The plots are PNG files of curves and counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from agent.accuracy.report import assess
from agent.base.errors import UsageError
from tests.accuracy.test_trial import played

plots = pytest.importorskip("agent.accuracy.plots", reason="needs matplotlib: kaopass[bench]")


def test_both_plots_are_written_and_are_no_blank_sheets(tmp_path: Path) -> None:
    report = assess(played(), [(0.05, 0.33), (0.01, 0.4)], 0.08)
    written = plots.draw(report, tmp_path / "new", "made up")
    assert [path.name for path in written] == ["det.png", "scores.png"]
    for path in written:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert (image < 128).mean() > 0.005


def test_they_say_the_same_without_colour(tmp_path: Path) -> None:
    report = assess(played(), [(0.05, 0.33)], 0.08)
    for path in plots.draw(report, tmp_path, "made up"):
        image = cv2.imread(str(path))
        assert image is not None
        spread = image.max(axis=2).astype(int) - image.min(axis=2)
        assert spread.max() <= 2


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--plots"):
        plots.draw(assess(played(), [(0.05, 0.33)], 0.08), tmp_path / "file", "made up")
