"""The shipped profiles are settings the agent really loads, and say what they must."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from agent.base.errors import SettingsError
from agent.base.values import DoorSignal
from agent.feedback.words import phrase
from agent.settings import model as settings

FIRMWARE = Path(__file__).parents[2] / "firmware_config"
PROFILES = sorted((FIRMWARE / "profiles").glob("*.toml"))


def test_there_are_profiles_for_a_bus_door_and_a_hall() -> None:
    assert [path.stem for path in PROFILES] == ["bus-door", "hall-kiosk"]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_loads(path: Path) -> None:
    loaded = settings.load(path)
    assert loaded.camera.kind == "picamera2"
    assert loaded.models.licence == "research"
    assert loaded.keys.source == "file"
    assert loaded.liveness.mode == "on"
    assert loaded.journal.on_failure == "refuse"
    assert loaded.sync.tls


def test_the_bus_door_has_lamps_and_the_hall_does_not_need_them() -> None:
    bus, hall = (settings.load(path) for path in PROFILES)
    assert (bus.place.kind, bus.feedback.lamps) == ("bus", "gpio")
    assert (hall.place.kind, hall.feedback.lamps) == ("hall", "none")
    assert bus.device.name != hall.device.name


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_an_unknown_key_in_a_profile_is_refused_with_the_right_one(
    path: Path, tmp_path: Path
) -> None:
    changed = tmp_path / path.name
    changed.write_text(path.read_text().replace("repeat_seconds", "repeat_second"))
    with pytest.raises(SettingsError, match=r"did you mean place\.repeat_seconds"):
        settings.load(changed)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_commented_out_settings_are_valid_too(path: Path, tmp_path: Path) -> None:
    """What a technician uncomments must load: no example rots in a comment."""
    text, count = re.subn(r"^# (\w+ = )", r"\1", path.read_text(), flags=re.MULTILINE)
    assert count >= 3
    changed = tmp_path / path.name
    changed.write_text(text)
    assert settings.load(changed).sync.certificate_file == Path("/etc/kaopass/device.pem")


def test_the_fallback_quoted_in_the_bus_profile_is_what_is_shown() -> None:
    (words,) = phrase(DoorSignal("fallback"), "bus", "ja").lines
    assert words in PROFILES[0].read_text()


def test_the_pins_held_dark_at_power_on_are_those_of_the_profile() -> None:
    feedback = settings.load(PROFILES[0]).feedback
    held = re.search(
        r"^gpio=([\d,]+)=op,dl$", (FIRMWARE / "raspberry-pi/kaopass.txt").read_text(), re.M
    )
    assert held is not None
    assert {int(pin) for pin in held[1].split(",")} == {
        feedback.green_pin,
        feedback.amber_pin,
        feedback.red_pin,
        feedback.buzzer_pin,
    }


def test_the_gstreamer_camera_of_the_jetson_page_loads(tmp_path: Path) -> None:
    page = (FIRMWARE / "jetson/README.md").read_text()
    lines = re.findall(r"^ {7}(\S.*)$", page, re.MULTILINE)
    example = tmp_path / "jetson.toml"
    example.write_text("\n".join(lines))
    assert settings.load(example).camera.source.startswith("nvarguscamerasrc ")


def sysusers(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            "systemd-sysusers",
            f"--root={root}",
            str(FIRMWARE / "common/sysusers.d/kaopass.conf"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_sysusers_makes_the_user_and_the_groups_the_unit_names(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = sysusers(tmp_path)
    assert done.returncode == 0, done.stderr
    groups = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert {"kaopass", "video", "gpio"} <= groups
    (user,) = (
        line
        for line in (tmp_path / "etc/passwd").read_text().splitlines()
        if line.startswith("kaopass:")
    )
    assert user.endswith("nologin")


def test_tmpfiles_gives_settings_to_the_agent_and_the_key_to_root_only(tmp_path: Path) -> None:
    """Run below a root of its own; the owners are left out where the test is not root."""
    (tmp_path / "etc/kaopass").mkdir(parents=True)
    (tmp_path / "var/lib").mkdir(parents=True)
    for name in ("settings.toml", "device-key.cred"):
        (tmp_path / "etc/kaopass" / name).write_text("")
    sysusers(tmp_path)
    rules = (FIRMWARE / "common/tmpfiles.d/kaopass.conf").read_text()
    own = tmp_path / "kaopass.conf"
    own.write_text(re.sub(r" (root|kaopass) +(root|kaopass) ", " - - ", rules))
    done = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(own)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modes = {
        name: f"{(tmp_path / name).stat().st_mode & 0o7777:o}"
        for name in ("etc/kaopass", "etc/kaopass/settings.toml", "etc/kaopass/device-key.cred")
    }
    assert modes == {
        "etc/kaopass": "750",
        "etc/kaopass/settings.toml": "640",
        "etc/kaopass/device-key.cred": "600",
    }
    assert f"{(tmp_path / 'var/lib/kaopass').stat().st_mode & 0o7777:o}" == "700"
