"""``kaopass gallery calibrate``: the town's own residents set the threshold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.gallery.gallery import Gallery
from agent.packs.manifest import load_manifest
from agent.recognition.rules import LOOKS, calibration_for, pack_calibration
from agent.settings.model import load
from agent.wiring.desk import open_ring
from tests.recognition.people import NOW_MS, PACK
from tests.recognition.scores import views


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["gallery", "calibrate", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def town(tmp_path: Path, people: int) -> Path:
    """Settings of a device with that many residents."""
    file = tmp_path / "settings.toml"
    file.write_text(f'[state]\ndirectory = "{tmp_path / "state"}"\n', encoding="utf-8")
    settings = load(file)
    rows, _ = views(people, 1)
    with Gallery(settings.state_directory / "gallery.db", open_ring(settings), PACK) as gallery:
        for number, row in enumerate(rows):
            gallery.enroll(f"resident-{number}", row[None], now_ms=NOW_MS)
    return file


def test_the_threshold_follows_the_residents_until_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = town(tmp_path, 520)
    settings, pack = load(file), load_manifest().pack(PACK)
    shipped = pack_calibration(pack)
    assert calibration_for(settings, pack) == shipped
    assert run("--settings", file, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["people"], said["pairs"], said["doubles"]) == (520, 520 * 519, 0)
    own = calibration_for(settings, pack)
    assert own.threshold(520, 0.001, looks=LOOKS) == pytest.approx(said["threshold"], abs=1e-4)
    assert said["threshold"] > said["pack_threshold"]  # random directions in 64 dimensions
    assert run("--settings", file, "--remove") == 0
    assert calibration_for(settings, pack) == shipped


def test_a_dozen_residents_are_told_that_they_are_too_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--settings", town(tmp_path, 12)) == 1
    assert "12 residents" in capsys.readouterr().err
