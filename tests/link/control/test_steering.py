"""Settings from the city: whole or refused, for what is in force, and back if they do not work."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agent.base.errors import MessageError, ProvisioningError, SettingsError
from agent.cli.door.settings import command as settings_command
from agent.link.control.steering import TRIAL_SECONDS, Steering, Trial, TrustAnchor
from agent.protocol.control import Config, SettingsReport
from agent.settings.model import load, load_with_city
from agent.settings.remote import MOST_STARTS, Overlay, OverlayFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "settings.toml"
    found.write_text(
        f'[place]\nname = "7"\n[vision]\nmax_faces = 8\n[state]\ndirectory = "{tmp_path}/state"\n'
    )
    return found


def config(version: int, base: int, **sections: dict[str, Any]) -> Config:
    return Config("bus-1", version, base, sections)


def file_of(path: Path) -> Path:
    return load(path).city_settings_file


def accepted(path: Path, steering: Steering | None = None) -> Steering:
    """Version 1 is in force: at most five faces."""
    found = steering or Steering(path)
    assert found.offer(config(1, 0, vision={"max_faces": 5}))
    assert found.begin().vision.max_faces == 5
    found.came_up()
    return found


def test_accepted_settings_lie_over_the_file_under_the_environment_and_stay(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steering = accepted(path)
    assert steering.report() == SettingsReport(1)
    assert load(path).vision.max_faces == 5
    assert load(path).place.name == "7"
    assert Steering(path).report() == SettingsReport(1)
    monkeypatch.setenv("KAOPASS_VISION__MAX_FACES", "3")
    assert load(path).vision.max_faces == 3
    assert load(path, {"vision": {"max_faces": 2}}).vision.max_faces == 2


def test_on_trial_those_before_are_reported_until_the_agent_is_up(path: Path) -> None:
    steering = Steering(path)
    assert steering.offer(config(1, 0, vision={"max_faces": 5}))
    steering.begin()
    assert (steering.on_trial, steering.report()) == (True, SettingsReport(0))
    steering.came_up()
    assert (steering.on_trial, steering.report()) == (False, SettingsReport(1))


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({"vision": {"max_faces": 0}}, ["vision.max_faces = 0"]),
        ({"vision": {"max_face": 5}}, ["vision.max_face"]),
        ({"visions": {"max_faces": 5}}, ["visions"]),
        ({"decision": {"min_frames": 9, "max_frames": 3}}, ["decision = "]),
        ({"device": {"name": "bus-2"}}, ["device.name"]),
        ({"keys": {"source": "otp"}}, ["keys.source"]),
        ({"state": {"directory": "/tmp/x"}}, ["state.directory"]),
        ({"models": {"licence": "research"}}, ["models.licence"]),
        ({"camera": {"kind": "gstreamer", "source": "filesrc ! fakesink"}}, ["camera"]),
        (
            {"sync": {"host": "x", "tls": False, "ca_file": "/x", "enabled": False}},
            ["sync.host", "sync.tls", "sync.ca_file", "sync.enabled"],
        ),
        ({"sync": {"port": 0}, "vision": {"x": 1}}, ["sync.port", "vision.x", "sync.port = 0"]),
    ],
)
def test_settings_with_any_mistake_are_refused_whole_and_each_is_named(
    path: Path, sections: dict[str, dict[str, Any]], names: list[str]
) -> None:
    steering = accepted(path)
    assert not steering.offer(config(2, 1, place={"name": "good"}, **sections))
    report = steering.report()
    assert (report.settings_version, report.refused_version) == (1, 2)
    for name in names:
        assert any(problem.startswith(name) for problem in report.problems), report.problems
    assert len(report.problems) == len(names)
    assert (load(path).place.name, load(path).vision.max_faces) == ("7", 5)
    assert Steering(path).report() == report  # a restart does not forget why
    assert steering.alarms()


def test_settings_made_for_another_version_are_refused(path: Path) -> None:
    steering = accepted(path)
    assert not steering.offer(config(3, 2, vision={"max_faces": 4}))
    assert "follow version 2, but 1 is in force" in steering.report().problems[0]
    assert load(path).vision.max_faces == 5
    assert steering.offer(config(4, 1, vision={"max_faces": 4}))
    assert steering.report().refused_version == 0


def test_what_was_judged_is_not_judged_again_and_older_ones_are_nonsense(path: Path) -> None:
    steering = accepted(path)
    assert not steering.offer(config(1, 0, vision={"max_faces": 5}))
    assert not steering.offer(config(5, 1, vision={"max_faces": 0}))
    before = steering.report()
    assert not steering.offer(config(5, 1, vision={"max_faces": 4}))
    with pytest.raises(MessageError, match="older"):
        steering.offer(config(4, 1, vision={"max_faces": 4}))
    assert steering.report() == before


def test_settings_that_do_not_come_up_are_rolled_back_and_not_tried_again(path: Path) -> None:
    steering = accepted(path)
    assert steering.offer(config(2, 1, vision={"max_faces": 4}))
    assert steering.begin().vision.max_faces == 4
    assert steering.failed("no such pack")
    assert steering.begin().vision.max_faces == 5
    report = steering.report()
    assert (report.settings_version, report.refused_version) == (1, 2)
    assert "no such pack" in report.problems[0]
    assert not steering.offer(config(2, 1, vision={"max_faces": 4}))  # the broker keeps it
    assert not steering.failed("something else")  # nothing is on trial: the agent's own trouble


@pytest.mark.parametrize("starts", range(MOST_STARTS + 2))
def test_a_power_cut_or_crash_on_trial_ends_in_settings_that_work(path: Path, starts: int) -> None:
    accepted(path).offer(config(2, 1, vision={"max_faces": 4}))
    for _ in range(starts):
        steering = Steering(path)  # a process that is cut off before it says anything
        steering.begin()
    steering = Steering(path)
    last = steering.begin().vision.max_faces
    assert last == (4 if starts < MOST_STARTS else 5)
    if starts >= MOST_STARTS:
        assert "without coming up" in steering.report().problems[0]


def test_the_agent_that_accepts_settings_is_not_the_one_that_is_tried(path: Path) -> None:
    steering = accepted(path)
    trial = Trial(steering, lambda: 0.0)
    assert steering.offer(config(2, 1, vision={"max_faces": 4}))
    assert trial.goes_on(works=True, state="")  # it works, with those before
    steering.came_up()
    assert not steering.failed("its own trouble")
    assert steering.report() == SettingsReport(1)
    assert steering.begin().vision.max_faces == 4
    assert steering.on_trial


def test_stopping_an_agent_in_order_says_nothing_of_settings_on_trial(path: Path) -> None:
    accepted(path).offer(config(2, 1, vision={"max_faces": 4}))
    for _ in range(MOST_STARTS + 3):
        steering = Steering(path)
        assert steering.begin().vision.max_faces == 4
        steering.interrupted()
    assert steering.on_trial


def test_one_trial_upon_another_goes_back_to_what_last_worked(path: Path) -> None:
    steering = accepted(path)
    assert steering.offer(config(2, 1, vision={"max_faces": 4}))
    assert steering.offer(config(3, 2, vision={"max_faces": 3}))
    assert steering.begin().vision.max_faces == 3
    assert steering.failed("no")
    assert steering.begin().vision.max_faces == 5


def test_a_trial_ends_when_there_is_a_picture_or_after_its_time(path: Path) -> None:
    now = [0.0]
    steering = accepted(path)
    steering.offer(config(2, 1, vision={"max_faces": 4}))
    steering.begin()
    trial = Trial(steering, lambda: now[0])
    assert trial.goes_on(works=False, state="camera lost")
    now[0] = TRIAL_SECONDS + 1
    assert not trial.goes_on(works=False, state="camera lost")
    assert "camera lost" in steering.report().problems[0]
    steering.offer(config(3, 1, vision={"max_faces": 3}))
    steering.begin()
    trial = Trial(steering, lambda: now[0])
    assert trial.goes_on(works=True, state="")
    now[0] *= 9
    assert trial.goes_on(works=False, state="camera lost")  # later trouble is not the settings'
    assert steering.report() == SettingsReport(3)


def test_when_the_whole_is_no_longer_valid_the_devices_own_settings_hold(path: Path) -> None:
    steering = Steering(path)
    assert steering.offer(config(1, 0, decision={"min_frames": 10}))
    steering.begin()
    steering.came_up()
    path.write_text(path.read_text() + "[decision]\nmax_frames = 5\n")  # a technician's change
    assert load(path).decision.min_frames == 3
    report = Steering(path).report()
    assert (report.settings_version, report.refused_version) == (0, 1)
    assert "below min_frames = 10" in " ".join(report.problems)
    shown = CliRunner().invoke(settings_command, ["--settings", str(path)])
    assert "not in force" in shown.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff"])
def test_a_damaged_file_never_keeps_a_device_from_starting(path: Path, content: bytes) -> None:
    accepted(path)
    file_of(path).write_bytes(content)
    assert load(path).vision.max_faces == 8
    steering = Steering(path)
    assert steering.report().settings_version == 0
    assert "cannot be read" in " ".join(steering.report().problems)
    assert steering.offer(config(2, 0, vision={"max_faces": 4}))
    assert steering.begin().vision.max_faces == 4


def full_disk(path: Path, content: bytes) -> None:
    del content
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_settings_that_cannot_be_written_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steering = accepted(path)
    monkeypatch.setattr("agent.settings.remote.write_file", full_disk)
    assert not steering.offer(config(2, 1, vision={"max_faces": 4}))
    assert "cannot be written" in steering.report().problems[0]
    assert load(path).vision.max_faces == 5


def test_the_file_is_this_users_alone_and_comes_back_as_it_was(tmp_path: Path) -> None:
    file = OverlayFile(tmp_path / "city-settings.json")
    told = Overlay(3, {"place": {"name": "泉"}}, (2, {"vision": {"max_faces": 4}}), 1, 9, ("why",))
    file.write(told)
    assert file.read() == told
    assert (tmp_path / "city-settings.json").stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["city-settings.json"]


def test_mistakes_in_the_devices_own_file_are_told_as_ever(path: Path) -> None:
    accepted(path)
    path.write_text("[vision]\nmax_faces = 0\n")
    with pytest.raises(SettingsError, match="max_faces"):
        load_with_city(path)


def test_settings_shows_which_come_from_the_city(path: Path) -> None:
    accepted(path)
    shown = CliRunner().invoke(settings_command, ["--settings", str(path)]).stdout
    assert "max_faces = 5  # from the city, version 1" in shown
    assert shown.count("from the city") == 1
    as_json = CliRunner().invoke(settings_command, ["--settings", str(path), "--json"]).stdout
    assert json.loads(as_json)["vision"]["max_faces"] == 5


def test_a_device_without_an_identity_trusts_nobody_and_with_a_damaged_one_says_so(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "identity"
    assert TrustAnchor(folder)() is None
    folder.mkdir()
    (folder / "generation-1").mkdir()
    (folder / "current").symlink_to("generation-1")
    with pytest.raises(ProvisioningError, match="damaged"):
        TrustAnchor(folder)()
