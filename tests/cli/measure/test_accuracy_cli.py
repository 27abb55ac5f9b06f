"""``kaopass accuracy``: its JSON line, its refusals, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.__main__ import main

FACES = Path(os.environ.get("KAOPASS_FACES", Path(__file__).parents[4] / "shared/faces"))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["accuracy", *map(str, arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def few_people(tmp_path: Path) -> Path:
    """Symbolic links to 12 people of several pictures and 20 of one."""
    source = FACES / "lfw-dev"
    if not source.is_dir():
        pytest.skip(f"no {source}: set KAOPASS_FACES to a folder that holds lfw-dev")
    folder = tmp_path / "people"
    folder.mkdir()
    wanted = {True: 12, False: 20}
    for person in sorted(source.iterdir()):
        several = len(list(person.iterdir())) >= 4
        if wanted[several] and (several or len(list(person.iterdir())) == 1):
            wanted[several] -= 1
            (folder / person.name).symlink_to(person)
    return folder


def test_real_people_are_told_apart_and_nothing_is_left_behind(
    few_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "groups.csv"
    csv.write_text(f"{next(few_people.iterdir()).name},first\n", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    asked = ("--gallery-size", 10, "--enroll-images", 2, "--fpir", 0.1, "--fpir", 0.05)
    assert run(few_people, *asked, "--groups", csv, "--json") == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert [item["fpir"] for item in said["results"]] == [0.1, 0.05]
    first = said["results"][0]
    assert first["probes"] >= 20
    assert first["strangers"] == 20
    assert first["fnir"] <= 0.1
    assert first["fnir_interval"][0] <= first["fnir"] <= first["fnir_interval"][1]
    assert said["calibrated"]["promised_fpir"] == 0.1
    assert 0.2 < said["calibrated"]["threshold"] < 0.4
    assert said["calibrated"]["measured_fpir"] <= 0.1
    assert {item["group"] for item in said["groups"]} == {"(no group)", "first"}
    assert err == ""  # no bar where nobody watches
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nowhere") == 2
    assert "nowhere" in capsys.readouterr().err


def test_more_people_than_there_are_is_refused_before_any_network_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ann").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "ann" / name).touch()
    assert run(tmp_path, "--gallery-size", 5) == 2
    assert "1 of the folder's people have two or more pictures" in capsys.readouterr().err


def test_a_line_of_groups_that_is_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "groups.csv"
    csv.write_text("ann,young\nben\n", encoding="utf-8")
    assert run(tmp_path, "--groups", csv) == 2
    assert "line 2" in capsys.readouterr().err
