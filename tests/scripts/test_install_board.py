"""``scripts/install-board`` into a folder: all in its place, twice the same, nothing else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agent.settings import model as settings

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "scripts" / "install-board"


def install(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
    )


def content(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(root)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def pi(root: Path) -> Path:
    """A Pi's boot partition below *root*."""
    boot = root / "boot" / "firmware"
    boot.mkdir(parents=True)
    (boot / "config.txt").write_text("arm_64bit=1\n[cm4]\notg_mode=1\n")
    (boot / "cmdline.txt").write_text("console=tty1 root=PARTUUID=1-02 rootwait\n")
    return boot


def test_a_pi_gets_every_file_with_its_mode(tmp_path: Path) -> None:
    boot = pi(tmp_path)
    result = install("--board", "raspberry-pi", "--root", str(tmp_path))
    assert result.returncode == 0, result.stderr
    modes = {name: f"{mode:o}" for name, (_, mode) in content(tmp_path).items()}
    assert (
        modes.items()
        >= {
            "etc/systemd/system/kaopass-agent.service": "644",
            "usr/lib/sysusers.d/kaopass.conf": "644",
            "usr/lib/tmpfiles.d/kaopass.conf": "644",
            "etc/udev/rules.d/70-kaopass.rules": "644",
            "etc/sysctl.d/70-kaopass.conf": "644",
            "etc/systemd/journald.conf.d/kaopass.conf": "644",
            "etc/systemd/system.conf.d/kaopass.conf": "644",
            "usr/local/bin/kaopass": "755",
            "etc/kaopass/settings.toml": "640",
            "boot/firmware/kaopass.txt": "644",
        }.items()
    )
    assert (boot / "config.txt").read_text().endswith("\n[all]\ninclude kaopass.txt\n")
    command_line = (boot / "cmdline.txt").read_text()
    assert command_line.endswith(" cgroup_enable=memory\n")
    assert command_line.count("\n") == 1
    assert settings.load(tmp_path / "etc/kaopass/settings.toml").place.kind == "bus"


def test_installing_twice_changes_nothing(tmp_path: Path) -> None:
    pi(tmp_path)
    install("--board", "raspberry-pi", "--root", str(tmp_path))
    before = content(tmp_path)
    result = install("--board", "raspberry-pi", "--root", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert content(tmp_path) == before
    assert "kept:" in result.stdout


def test_settings_and_key_of_a_board_in_service_are_kept(tmp_path: Path) -> None:
    own = tmp_path / "etc" / "kaopass"
    own.mkdir(parents=True)
    (own / "settings.toml").write_text('[device]\nname = "bus-door-77"\n')
    (own / "device-key.cred").write_text("sealed")
    result = install("--board", "raspberry-pi", "--root", str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "bus-door-77" in (own / "settings.toml").read_text()
    assert (own / "device-key.cred").read_text() == "sealed"
    assert "systemd-creds encrypt" not in result.stdout


def test_with_a_root_the_running_board_is_only_told_about(tmp_path: Path) -> None:
    result = install("--board", "jetson", "--profile", "hall-kiosk", "--root", str(tmp_path))
    assert result.returncode == 0, result.stderr
    told = [line for line in result.stdout.splitlines() if line.startswith("on the board: ")]
    for step in ("python3 -m venv", "pip install", "systemd-sysusers", "systemctl enable"):
        assert any(step in line for line in told), step
        assert not any(f"+ {step}" in line for line in result.stdout.splitlines())
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize(
    ("numpy", "constraints"),
    [
        ("1.24.2", "firmware_config/common/constraints-numpy1.txt"),
        ("2.2.4", "constraints.txt"),
        ("", "constraints.txt"),
    ],
)
def test_the_versions_go_with_the_numpy_of_the_board(
    tmp_path: Path, numpy: str, constraints: str
) -> None:
    """The board's camera modules are built for its own NumPy."""
    python = tmp_path / "tools" / "python3"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\n[ -n '{numpy}' ] && echo '{numpy}'\n")
    python.chmod(0o755)
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    result = install("--board", "raspberry-pi", "--root", str(tmp_path / "root"), PATH=path)
    assert result.returncode == 0, result.stderr
    (pip,) = [line for line in result.stdout.splitlines() if "pip install" in line]
    assert f"--constraint {CHECKOUT / constraints} {CHECKOUT}" in pip


def test_a_jetson_gets_its_drop_in_and_no_boot_files(tmp_path: Path) -> None:
    boot = pi(tmp_path)
    install("--board", "jetson", "--profile", "hall-kiosk", "--root", str(tmp_path))
    drop_in = tmp_path / "etc/systemd/system/kaopass-agent.service.d/jetson.conf"
    assert "argus_socket" in drop_in.read_text()
    assert not (boot / "kaopass.txt").exists()
    assert settings.load(tmp_path / "etc/kaopass/settings.toml").place.kind == "hall"


def test_a_board_without_systemd_creds_gets_the_key_file_drop_in(tmp_path: Path) -> None:
    """With a search path that lacks systemd-creds, as on JetPack 6 (systemd 249)."""
    tools = tmp_path / "tools"
    tools.mkdir()
    wanted = "bash env id dirname realpath install mkdir grep sed cat tr head sh python3 echo"
    for tool in wanted.split():
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            (tools / tool).symlink_to(found.stdout.strip())
    root = tmp_path / "root"
    result = install("--board", "jetson", "--root", str(root), PATH=str(tools))
    assert result.returncode == 0, result.stderr
    drop_in = root / "etc/systemd/system/kaopass-agent.service.d/key-file.conf"
    assert "--keys file" in drop_in.read_text()
    assert "systemd-creds encrypt" not in result.stdout


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    result = install("--board", "raspberry-pi", "--root", str(root), "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "kaopass-agent.service" in result.stdout
    assert not root.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--board", "arduino"], "unknown board 'arduino'; there are: raspberry-pi jetson"),
        (
            ["--board", "jetson", "--profile", "tram"],
            "unknown profile 'tram'; there are: bus-door hall-kiosk",
        ),
        (["--board"], "--board wants a value"),
        (["--bord", "jetson"], "unknown option --bord"),
        (["--board", "jetson", "--wheel", "/nowhere/kaopass.whl"], "no wheel /nowhere/kaopass.whl"),
    ],
)
def test_a_wrong_call_is_told_and_changes_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    root = tmp_path / "root"
    result = install("--root", str(root), *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert not root.exists()


def test_an_unknown_machine_is_asked_for_its_board(tmp_path: Path) -> None:
    model = Path("/proc/device-tree/model")
    if model.exists() and any(name in model.read_text() for name in ("Raspberry", "Jetson")):
        pytest.skip("this is a board")
    result = install("--root", str(tmp_path))
    assert result.returncode == 2
    assert "--board raspberry-pi|jetson" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root is what it asks for")
def test_without_root_it_says_so() -> None:
    result = install("--board", "jetson")
    assert result.returncode == 2
    assert "must be root" in result.stderr


def test_the_shell_files_parse() -> None:
    for script in (SCRIPT, CHECKOUT / "firmware_config/common/bin/kaopass"):
        shell = "bash" if script == SCRIPT else "sh"
        done = subprocess.run(
            [shell, "-n", str(script)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
