"""The units pass systemd's own verifier without a warning, and are as locked down as promised.

A unit is verified below a root of its own: its program, user and targets are not on this
machine, and the verifier would rightly complain. The root holds the program as a stub and copies
of the host's targets and slices, so that everything else it says is about the unit.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from agent.cli.main import kaopass

CHECKOUT = Path(__file__).parents[2]
UNITS = CHECKOUT / "systemd"
UNIT = UNITS / "kaopass-agent.service"
# How exposed each may be, in tenths, by systemd's own reckoning; the city's two run as root.
EXPOSURE = {"kaopass-agent": 15, "kaopass-city": 17, "kaopass-est": 24}
COMMON = CHECKOUT / "firmware_config" / "common"
JETSON = CHECKOUT / "firmware_config" / "jetson"
HOST_UNITS = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is missing: apt-get install systemd"
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root that has what the unit names."""
    units = tmp_path / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    host = next(folder for folder in HOST_UNITS if folder.is_dir())
    for unit in (*host.glob("*.target"), *host.glob("*.slice")):
        shutil.copy(unit, units / unit.name, follow_symlinks=False)
    program = tmp_path / "opt/kaopass/bin/kaopass"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    installed = tmp_path / "etc/systemd/system"
    installed.mkdir(parents=True)
    for unit in UNITS.glob("*.service"):
        shutil.copy(unit, installed)
    return tmp_path


def verify(root: Path, name: str = "kaopass-agent") -> subprocess.CompletedProcess[str]:
    return analyze("verify", f"--root={root}", "--man=no", f"{name}.service")


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_every_unit_is_looked_at_here() -> None:
    assert {unit.stem for unit in UNITS.glob("*.service")} == set(EXPOSURE)


@pytest.mark.parametrize("name", EXPOSURE)
def test_a_unit_verifies_without_a_word(root: Path, name: str) -> None:
    done = verify(root, name)
    assert (done.returncode, said(done)) == (0, "")


@pytest.mark.parametrize("name", EXPOSURE)
def test_a_unit_calls_a_command_with_options_that_exist(name: str) -> None:
    words = Unit(UNITS / f"{name}.service")["Service"]["ExecStart"].replace("\\", "").split()[1:]
    command: click.Command | None = kaopass
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    required = {parameter.opts[0] for parameter in command.params if parameter.required}
    assert required <= {*words, "--broker"}  # that one is in the environment


def test_the_city_finds_everything_below_its_state_and_the_broker_in_the_environment() -> None:
    for name in ("kaopass-city", "kaopass-est"):
        service = Unit(UNITS / f"{name}.service")["Service"]
        assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert "KAOPASS_CITY_BROKER=" in (UNITS / "kaopass-city.service").read_text()


@pytest.mark.parametrize(
    ("right", "wrong"), [("MemoryMax=", "MemoryMost="), ("WatchdogSec=10", "WatchdogSec=ten")]
)
def test_the_check_would_see_a_mistake(root: Path, right: str, wrong: str) -> None:
    """Unknown keys and bad values are only warnings to the verifier, hence silence is asked for."""
    path = root / "etc/systemd/system/kaopass-agent.service"
    path.write_text(path.read_text().replace(right, wrong))
    assert said(verify(root)) != ""


def test_a_missing_program_is_seen(root: Path) -> None:
    (root / "opt/kaopass/bin/kaopass").unlink()
    assert "not executable" in said(verify(root))


@pytest.mark.parametrize(
    "drop_in",
    [
        COMMON / "kaopass-agent.service.d/key-file.conf",
        JETSON / "kaopass-agent.service.d/jetson.conf",
    ],
    ids=lambda path: path.stem,
)
def test_a_drop_in_verifies_without_a_word(root: Path, drop_in: Path) -> None:
    folder = root / "etc/systemd/system/kaopass-agent.service.d"
    folder.mkdir()
    shutil.copy(drop_in, folder)
    done = verify(root)
    assert (done.returncode, said(done)) == (0, "")


@pytest.mark.parametrize("name", EXPOSURE)
def test_exposure_is_at_most_what_is_promised(name: str) -> None:
    unit, most = UNITS / f"{name}.service", EXPOSURE[name]
    done = analyze("security", "--offline=true", f"--threshold={most}", "--no-pager", str(unit))
    overall = re.search(r"Overall exposure level for \S+ (\d+\.\d+)", done.stdout)
    assert overall is not None, said(done)
    assert float(overall[1]) <= most / 10
    assert done.returncode == 0, done.stdout


def test_the_exposure_check_can_fail() -> None:
    done = analyze("security", "--offline=true", "--threshold=5", "--no-pager", str(UNIT))
    assert done.returncode != 0


class Unit(configparser.ConfigParser):
    """A unit's values; of a key given several times the last one."""

    def __init__(self, path: Path = UNIT) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read(path, encoding="utf-8")


def test_a_crash_leaves_no_face_on_the_card() -> None:
    service = Unit()["Service"]
    assert service["LimitCORE"] == "0"
    assert service["MemorySwapMax"] == "0"


def test_the_key_of_the_unit_is_the_one_the_installer_makes() -> None:
    name, path = Unit()["Service"]["LoadCredentialEncrypted"].split(":")
    installer = (CHECKOUT / "scripts/install-board").read_text()
    assert f"systemd-creds encrypt --name={name} - {path}" in installer
    assert f'-p "LoadCredentialEncrypted={name}:$key"' in (COMMON / "bin/kaopass").read_text()


def test_the_working_directory_is_writable_for_the_pipe_of_lgpio() -> None:
    service = Unit()["Service"]
    assert service["WorkingDirectory"] == f"%t/{service['RuntimeDirectory']}"


def test_only_wrong_settings_keep_the_service_from_starting_again() -> None:
    unit = Unit()
    assert unit["Service"]["Restart"] == "on-failure"
    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
