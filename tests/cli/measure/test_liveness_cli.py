"""``kaopass liveness`` and ``identify --liveness on`` as a technician and a program use them.

The pictures are those of installed packages, shown through symbolic links; none is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from agent.base.errors import KaopassError, ModelError, UsageError
from agent.cli.main import kaopass
from agent.sim.attacks import KINDS
from agent.sim.photographs import picture
from tests.liveness_pack import models_directory


def run(state: Path, *arguments: str | Path) -> Result:
    env = {
        "KAOPASS_STATE__DIRECTORY": str(state),
        "KAOPASS_MODELS__DIRECTORY": str(models_directory()),
        "KAOPASS_SETTINGS": "",
    }
    return CliRunner(env=env).invoke(kaopass, ["liveness", *map(str, arguments)])


def failure(result: Result) -> KaopassError:
    assert isinstance(result.exception, KaopassError), result.output
    return result.exception


def shown(folder: Path, *names: str) -> Path:
    """A folder that shows package pictures under other names."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        suffix = picture(name).suffix
        (folder / f"{Path(name).stem}{'abcdefgh'[number]}{suffix}").symlink_to(picture(name))
    return folder


def test_check_prints_a_line_a_file(tmp_path: Path) -> None:
    files = [picture("t1.jpg"), picture("yaoming.jpg")]
    done = run(tmp_path, "check", "--json", *files)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["file"] for line in lines] == [str(file) for file in files]
    assert len(lines[0]["faces"]) == 6
    for one in lines[0]["faces"] + lines[1]["faces"]:
        assert isinstance(one["live"], bool)
        assert 0.0 <= one["score"] <= 1.0
        assert one["reason"] == ("live" if one["live"] else "not_live")
        assert one["live"] == (one["score"] >= 0.5)


def test_check_goes_on_after_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    done = run(tmp_path, "check", "--json", tmp_path / "empty.jpg", picture("yaoming.jpg"))
    assert done.exit_code == 1
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["faces"] == []
    assert "empty" in first["error"]
    assert len(second["faces"]) == 1


def test_a_path_at_which_nothing_is_is_wrong_usage(tmp_path: Path) -> None:
    done = run(tmp_path, "check", "--json", picture("yaoming.jpg"), tmp_path / "no.jpg")
    assert isinstance(done.exception, UsageError)
    assert "no.jpg: there is no such file" in str(done.exception)
    assert done.stdout == ""


def test_check_for_people_says_it_in_words(tmp_path: Path) -> None:
    said = run(tmp_path, "check", picture("gdp.jpg")).stdout
    assert said.startswith(f"{picture('gdp.jpg')}: live (")


def test_the_threshold_of_the_settings_decides(tmp_path: Path) -> None:
    strict = tmp_path / "strict.toml"
    strict.write_text(
        '[models]\nlicence = "research"\n[liveness]\nthreshold = 1.0\n', encoding="utf-8"
    )
    done = run(tmp_path, "check", "--json", "--settings", strict, picture("t1.jpg"))
    assert not any(face["live"] for face in json.loads(done.stdout)["faces"])


@pytest.mark.slow
def test_calibrate_keeps_a_threshold_that_check_then_uses(tmp_path: Path) -> None:
    live = shown(tmp_path / "live", "t1.jpg", "gdp.jpg", "players.jpg", "t1.jpg", "gdp.jpg")
    done = run(tmp_path, "calibrate", live, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["bpcer"] == {
        "rate": 0.0,
        "errors": 0,
        "trials": 5,
        "presentations": 5,
        "interval": [0.0, pytest.approx(0.45, abs=0.01)],
    }
    assert json.loads((tmp_path / "liveness.json").read_text())["threshold"] == found["threshold"]
    at_it = run(tmp_path, "check", "--json", picture("gdp.jpg"))
    (first, *_) = json.loads(at_it.stdout)["faces"]
    assert first["live"] == (first["score"] >= found["threshold"])


@pytest.mark.slow
def test_calibrate_leaves_out_and_names_the_picture_without_a_face(tmp_path: Path) -> None:
    names = ("t1.jpg", "gdp.jpg", "players.jpg", "t1.jpg", "gdp.jpg")
    live = shown(tmp_path / "live", *names)
    alone = json.loads(run(tmp_path, "calibrate", live, "--json").stdout)
    grey = live / "grey.png"
    grey.write_bytes(cv2.imencode(".png", np.full((240, 320, 3), 128, np.uint8))[1].tobytes())
    done = run(tmp_path, "calibrate", live, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["threshold"] == alone["threshold"]
    assert found["bpcer"]["trials"] == 5
    assert found["no_face"] == [str(live / "grey")]
    assert f"left out: in 1 of 6 no face was found: {live / 'grey'}" in done.stderr
    for entry in sorted(live.glob("*.jpg"))[:3]:
        entry.unlink()
    few = run(tmp_path, "calibrate", live)
    assert "at least 5" in str(failure(few))
    assert "left out: in 1 of" in few.stderr


def test_measure_counts_a_picture_without_a_face_as_refused(tmp_path: Path) -> None:
    live = shown(tmp_path / "set" / "live", "gdp.jpg")
    (live / "grey.png").write_bytes(
        cv2.imencode(".png", np.full((240, 320, 3), 128, np.uint8))[1].tobytes()
    )
    shown(tmp_path / "set" / "magazine", "yaoming.jpg")
    said = json.loads(run(tmp_path, "measure", tmp_path / "set", "--json").stdout)["bpcer"]
    assert (said["no_face"], said["sequence"]["errors"], said["sequence"]["trials"]) == (1, 1, 2)


def test_calibrate_says_what_attacks_would_pass_and_can_keep_nothing(tmp_path: Path) -> None:
    live = shown(tmp_path / "live", "t1.jpg", "gdp.jpg", "players.jpg", "t1.jpg", "gdp.jpg")
    shown(tmp_path / "attacks" / "magazine", "yaoming.jpg")
    done = run(
        tmp_path, "calibrate", live, "--attacks", tmp_path / "attacks", "--dry-run", "--json"
    )
    found = json.loads(done.stdout)
    assert found["apcer"]["magazine"]["trials"] == 1
    assert found["written"] is None
    assert not (tmp_path / "liveness.json").exists()


@pytest.mark.slow
def test_calibrate_watches_the_devices_own_camera_for_as_long_as_it_is_told(
    tmp_path: Path,
) -> None:
    """The camera is a folder that shows the six people of ``t1``, 15 frames a second."""
    clip = tmp_path / "clip"
    clip.mkdir()
    for index in range(5):
        (clip / f"{index}.jpg").symlink_to(picture("t1.jpg"))
    camera = tmp_path / "camera.toml"
    camera.write_text(
        '[models]\nlicence = "research"\n'
        f'[camera]\nkind = "folder"\nsource = "{clip}"\npace = "fast"\nloop = true\n',
        encoding="utf-8",
    )
    done = run(tmp_path, "calibrate", "--camera", "1", "--settings", camera, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["bpcer"]["trials"] == 6
    problem = failure(run(tmp_path, "calibrate", "--settings", camera))
    assert "--camera SECONDS" in str(problem)


def test_calibrate_refuses_too_few_people(tmp_path: Path) -> None:
    live = shown(tmp_path / "live", "t1.jpg", "gdp.jpg")
    problem = failure(run(tmp_path, "calibrate", live))
    assert isinstance(problem, UsageError)
    assert "at least 5" in str(problem)


@pytest.mark.slow
def test_measure_reports_each_kind_with_intervals(tmp_path: Path) -> None:
    shown(tmp_path / "set" / "live", "t1.jpg", "gdp.jpg")
    shown(tmp_path / "set" / "magazine", "yaoming.jpg")
    done = run(tmp_path, "measure", tmp_path / "set", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["bpcer"]["sequence"]["trials"] == 2
    assert set(report["apcer"]) == {"magazine"}
    low, high = report["apcer"]["magazine"]["image"]["interval"]
    assert 0.0 <= low < high <= 1.0
    assert report["eer"] == {"image": 0.0, "sequence": 0.0}
    assert report["eer_interval"] == {"image": [0.0, 0.0], "sequence": [0.0, 0.0]}
    assert report["ms_per_face"] > 1
    table = run(tmp_path, "measure", tmp_path / "set").stdout
    assert "BPCER, live refused" in table
    assert "APCER, magazine" in table
    assert "EER a sequence: 0.0%" in table
    assert "95% intervals: a sequence exact; an image by sequences" in table


def test_measure_counts_images_of_one_sequence_as_the_one_presentation_they_are(
    tmp_path: Path,
) -> None:
    live = tmp_path / "set" / "live"
    shown(live, "gdp.jpg", "t1.jpg")
    for number in range(6):
        (live / f"copy_{number}.jpg").symlink_to(picture("gdp.jpg"))
    shown(tmp_path / "set" / "magazine", "yaoming.jpg")
    done = run(tmp_path, "measure", tmp_path / "set", "--threshold", "0", "--json")
    image = json.loads(done.stdout)["bpcer"]["image"]
    assert (image["errors"], image["trials"], image["presentations"]) == (0, 8, 3)
    assert image["interval"][1] == pytest.approx(1 - 0.05 ** (1 / 3), abs=1e-4)


def test_measure_needs_live_faces_and_something_to_measure(tmp_path: Path) -> None:
    shown(tmp_path / "set" / "magazine", "yaoming.jpg")
    assert 'no subfolder "live"' in str(failure(run(tmp_path, "measure", tmp_path / "set")))
    assert "--synthetic" in str(failure(run(tmp_path, "measure")))
    assert "no such file or folder" in str(failure(run(tmp_path, "calibrate", tmp_path / "x")))


@pytest.mark.slow
def test_measure_draws_every_kind_of_attack_from_the_photographs_given(tmp_path: Path) -> None:
    shown(tmp_path / "faces", "gdp.jpg")
    done = run(tmp_path, "measure", "--faces", tmp_path / "faces", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    people = report["bpcer"]["sequence"]["trials"]
    assert people >= 1
    assert {kind: found["sequence"]["trials"] for kind, found in report["apcer"].items()} == {
        f"synthetic {kind}": people for kind in KINDS
    }


@pytest.mark.slow
def test_identify_refuses_a_picture_of_an_enrolled_person_and_names_a_live_one(
    tmp_path: Path,
) -> None:
    """``yaoming.jpg`` is told for the picture it is, but only if asked."""

    def identify(*mode: str) -> tuple[list[dict[str, Any]], str]:
        env = {
            "KAOPASS_STATE__DIRECTORY": str(tmp_path),
            "KAOPASS_MODELS__DIRECTORY": str(models_directory()),
        }
        file = str(picture("yaoming.jpg"))
        words = ["identify", file, "--enroll", f"y={file}", "--json", *mode]
        done = CliRunner(env=env).invoke(kaopass, words)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    (refused, summary), said = identify("--liveness", "on")
    assert said == ""
    assert (refused["decision"], refused["person"], refused["reason"]) == (
        "rejected",
        None,
        "not_live",
    )
    assert summary["summary"] == {
        "frames": 1,
        "tracks": 1,
        "people": {},
        "first": {},
        "unknown": 0,
        "rejected": 1,
        "liveness": "on",
    }
    (named, summary), said = identify()
    assert named["person"] == "y"
    assert said == "liveness is not judged on files; with --liveness on it is\n"
    assert summary["summary"]["liveness"] == "off"
    (named, _), said = identify("--liveness", "off")
    assert (named["person"], said) == ("y", "")


def test_identify_with_liveness_and_without_its_pack_says_what_to_run(tmp_path: Path) -> None:
    file = str(picture("yaoming.jpg"))
    env = {"KAOPASS_MODELS__DIRECTORY": str(tmp_path)}
    words = ["identify", file, "--enroll", f"y={file}", "--liveness", "on"]
    done = CliRunner(env=env).invoke(kaopass, words)
    assert isinstance(done.exception, ModelError)
    assert "run: kaopass models install faceplugin" in str(done.exception)
