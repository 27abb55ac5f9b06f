"""The unit passes systemd's own verifier without a warning, and is as locked down as promised.

The unit is verified below a root of its own: its program, user and targets are not on this
machine, and the verifier would rightly complain. The root holds the program as a stub and copies
of the host's targets and slices, so that everything else it says is about the unit.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
UNIT = CHECKOUT / "systemd" / "kaopass-agent.service"
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
    shutil.copy(UNIT, installed)
    return tmp_path


def verify(root: Path) -> subprocess.CompletedProcess[str]:
    return analyze("verify", f"--root={root}", "--man=no", "kaopass-agent.service")


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_the_unit_verifies_without_a_word(root: Path) -> None:
    done = verify(root)
    assert (done.returncode, said(done)) == (0, "")


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


def test_exposure_is_at_most_one_and_a_half() -> None:
    done = analyze("security", "--offline=true", "--threshold=15", "--no-pager", str(UNIT))
    overall = re.search(r"Overall exposure level for \S+ (\d+\.\d+)", done.stdout)
    assert overall is not None, said(done)
    assert float(overall[1]) <= 1.5
    assert done.returncode == 0, done.stdout


def test_the_exposure_check_can_fail() -> None:
    done = analyze("security", "--offline=true", "--threshold=5", "--no-pager", str(UNIT))
    assert done.returncode != 0


class Unit(configparser.ConfigParser):
    """The unit's values; of a key given several times all values, in order."""

    def __init__(self) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        self.read(UNIT, encoding="utf-8")


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
