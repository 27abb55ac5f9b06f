"""What goes wrong in the field is answered in one clear line and a defined exit code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.sim.photographs import picture
from tests.line.door import Door, people_of
from tests.mosquitto import Mosquitto
from tests.waiting import until

YAO, TEAM, SIX = picture("yaoming.jpg"), picture("players.jpg"), picture("t1.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes.mp4").write_text("this is no video")
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((240, 320, 3), 127, np.uint8))
    (tmp_path / "empty").mkdir()
    return tmp_path


def kaopass(*arguments: object, state: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "KAOPASS_STATE__DIRECTORY": str(state),
        "KAOPASS_MODELS__LICENCE": "research",
        "KAOPASS_LIVENESS__MODE": "off",  # the passengers are photographs
        "KAOPASS_SYNC__ENABLED": "false",
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["identify", "gone.mp4", "--enroll", f"yao={YAO}"], 2, ["gone.mp4", "no such file"]),
        (["identify", "notes.mp4", "--enroll", f"yao={YAO}"], 1, ["notes.mp4"]),
        (["identify", "empty", "--enroll", f"yao={YAO}"], 1, ["empty"]),
        (["identify", str(YAO), "--enroll", "yao"], 2, ["ID=FILE"]),
        (["identify", str(YAO)], 1, ["--gallery", "--enroll"]),
        (["identify", str(YAO), "--others", "empty"], 2, ["--others", "--enroll"]),
        (["identify", str(YAO), "--enroll", "a=wall.png"], 1, ["wall.png", "no face"]),
        (["identify", str(YAO), "--enroll", f"a={SIX}"], 1, ["6 faces"]),
        (["gallery", "enroll", "anna", str(YAO)], 1, ["min_images = 3"]),
        (["gallery", "enroll", "anna", str(YAO), str(SIX)], 1, ["6 faces"]),
        (["run", "--camera", "gone.mp4"], 2, ["gone.mp4", "no such file"]),
        (["status"], 1, ["no agent"]),
        (["stauts"], 2, ["status"]),
        (["models", "verify", "bufallo"], 2, ["buffalo_s"]),
        (["models", "install", "buffalo_s", "--from", "gone.zip"], 2, ["gone.zip"]),
    ],
    ids=lambda value: " ".join(map(str, value))[:50] if isinstance(value, list) else "",
)
def test_one_clear_line_and_an_exit_code(
    folder: Path, arguments: list[str], code: int, words: list[str]
) -> None:
    here = [str(folder / a) if (folder / a).exists() else a for a in arguments]
    here = [a.replace("=wall.png", f"={folder / 'wall.png'}") for a in here]
    done = kaopass(*here, state=folder / "state")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    if arguments[0] == "gallery":
        assert not (folder / "state" / "gallery.db").exists(), "nothing half-applied"


def test_all_mistakes_in_the_settings_are_told_at_once(folder: Path) -> None:
    file = folder / "settings.toml"
    file.write_text(
        '[camera]\nkind = "webcam"\nwidth_pixel = 640\n[sync]\nport = "many"\n[snyc]\nhost = "x"\n'
    )
    done = kaopass(
        "run", "--settings", file, state=folder / "state", KAOPASS_LIVENESS__MODE="maybe"
    )
    assert done.returncode == 2
    for word in (
        "5 mistakes",
        "camera.kind",
        "did you mean camera.width_pixels",
        "sync.port",
        "did you mean sync",
        "liveness.mode",
    ):
        assert word in done.stderr, done.stderr


@pytest.mark.slow
def test_a_model_without_accepted_licence_or_with_other_bytes_does_not_run(folder: Path) -> None:
    refused = kaopass(
        "run", "--camera", YAO, state=folder / "state", KAOPASS_MODELS__LICENCE="none"
    )
    assert refused.returncode == 1
    assert 'models.licence = "research"' in refused.stderr
    packs = folder / "packs" / "buffalo_s"
    packs.mkdir(parents=True)
    for name in ("scrfd_500m_bnkps.onnx", "w600k_mbf.onnx"):
        shutil.copy(YAO.parent / name, packs / name)
    whole = (packs / "w600k_mbf.onnx").read_bytes()
    for wrong in (whole[:-1], whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]):
        (packs / "w600k_mbf.onnx").write_bytes(wrong)
        done = kaopass(
            *("identify", YAO, "--enroll", f"yao={YAO}"),
            state=folder / "state",
            KAOPASS_MODELS__DIRECTORY=str(folder / "packs"),
        )
        assert done.returncode == 1
        assert "w600k_mbf.onnx" in done.stderr
        assert "kaopass models install buffalo_s" in done.stderr


@pytest.mark.slow
def test_a_door_does_not_open_without_the_liveness_network_unless_told_to(folder: Path) -> None:
    settings = folder / "settings.toml"
    settings.write_text(f'[models]\nlicence = "research"\ndirectory = "{folder / "none"}"\n')
    words = ("run", "--camera", YAO, "--until-end", "--settings", settings)
    refused = kaopass(*words, state=folder / "state", KAOPASS_LIVENESS__MODE="on")
    assert refused.returncode == 1
    assert "run: kaopass models install faceplugin" in refused.stderr
    assert not (folder / "state" / "journal.db").exists(), "nothing was opened"
    done = kaopass(*words, state=folder / "state", KAOPASS_LIVENESS__MODE="off")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_gallery_under_another_key_is_refused_and_left_alone(folder: Path) -> None:
    door = Door(folder / "door", 1)
    door.enrol(people_of("t1.jpg"))
    before = (door.state / "gallery.db").read_bytes()
    (door.state / "keys" / "device-key").write_bytes(bytes(range(32)))
    done = kaopass("run", "--camera", YAO, "--until-end", state=door.state)
    assert done.returncode == 1
    assert "another key" in done.stderr
    assert (door.state / "gallery.db").read_bytes() == before


@pytest.mark.slow
def test_a_lost_key_is_not_replaced_by_a_new_one(folder: Path) -> None:
    door = Door(folder / "door", 1)
    door.enrol(people_of("t1.jpg"))
    (door.state / "keys" / "device-key").unlink()
    done = kaopass("run", "--camera", YAO, "--until-end", state=door.state)
    assert done.returncode == 1
    assert not (door.state / "keys" / "device-key").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["journal.db", "gallery.db"])
def test_a_damaged_database_is_kept_aside_and_the_door_works_on(folder: Path, name: str) -> None:
    door = Door(folder / "door", 1)
    door.enrol(people_of("t1.jpg"))
    first = kaopass("run", "--camera", SIX, "--until-end", "--json", state=door.state)
    assert first.returncode == 0, first.stderr
    path = door.state / name
    content = bytearray(path.read_bytes())
    content[4096 : len(content) - 4096 : 7] = bytes(len(content[4096 : len(content) - 4096 : 7]))
    path.write_bytes(content)
    damaged = bytes(content)
    again = kaopass("run", "--camera", SIX, "--until-end", "--json", state=door.state)
    assert again.returncode == 0, again.stderr
    assert "ready" in [json.loads(line)["signal"] for line in again.stdout.splitlines()]
    kept = [p.read_bytes() for p in door.state.iterdir() if p.name != name and name in p.name]
    assert damaged in kept, "the damaged file must be kept as it was"


@pytest.mark.broker
def test_a_broker_that_refuses_costs_nothing_but_the_connection(tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path / "broker", anonymous=False) as broker,
        Door(tmp_path / "door", broker.port) as door,
    ):
        door.enrol(people_of("t1.jpg"))
        door.start(door.queue_of("t1.jpg"))
        until(lambda: len(door.ledger) >= 6, "six boardings")
        status = kaopass("status", "--json", state=door.state)
        sync = json.loads(status.stdout)["detail"]["sync"]
        assert sync["connected"] is False
        assert "not authori" in sync["reason"].lower()
        door.stop()


@pytest.mark.slow
def test_a_camera_that_is_not_there_is_waited_for_and_named_in_the_status(tmp_path: Path) -> None:
    with Door(tmp_path / "door", 1) as door:
        door.start(Path("/dev/v4l/by-path/none"))
        door.wait_for("ready")

        def alarms() -> list[str]:
            found: list[str] = json.loads(kaopass("status", "--json", state=door.state).stdout)[
                "alarms"
            ]
            return [alarm for alarm in found if alarm.startswith("camera")]

        until(alarms, "an alarm about the camera")
        assert "/dev/v4l/by-path/none" in alarms()[0]
        assert "no such camera" in alarms()[0]
        door.stop()
