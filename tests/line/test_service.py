"""The shipped profile runs as the unit starts it: notify socket, watchdog, SIGTERM, status."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent.sim.photographs import picture
from tests.liveness_pack import models_directory
from tests.waiting import LATE_SECONDS, until

pytestmark = pytest.mark.slow

PROFILES = Path(__file__).parent.parent.parent / "firmware_config/profiles"
RUN = (sys.executable, "-m", "agent", "run", "--keys", "credential", "--camera")
WATCHDOG_SECONDS = 6.0  # a sign of life every 1.5 s


class Systemd:
    """The other end of the notify socket, and the environment the unit gives."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.settimeout(0.05)
        self.heard: list[tuple[float, str]] = []
        self.environment = {
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": str(round(WATCHDOG_SECONDS * 1e6)),
            "STATE_DIRECTORY": str(folder / "state"),
            "RUNTIME_DIRECTORY": str(folder / "run"),
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
        }
        for name in ("state", "run", "credentials"):
            (folder / name).mkdir(mode=0o700)
        key = folder / "credentials" / "device-key"
        key.write_bytes(bytes(range(32)))
        key.chmod(0o400)

    def listen(self) -> None:
        try:
            while True:
                self.heard.append((time.monotonic(), self._socket.recv(4096).decode()))
        except TimeoutError:
            return

    def said(self, message: str) -> list[float]:
        self.listen()
        return [at for at, text in self.heard if message in text.splitlines()]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    manager = Systemd(tmp_path)
    yield manager
    manager.close()


@pytest.mark.parametrize("profile", ["bus-door", "hall-kiosk"])
def test_the_profile_runs_as_a_service(tmp_path: Path, systemd: Systemd, profile: str) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        agent = subprocess.Popen(
            [*RUN, picture("t1.jpg"), "--settings", PROFILES / f"{profile}.toml"],
            stdout=out,
            stderr=out,
            env={
                **os.environ,
                **systemd.environment,
                "KAOPASS_MODELS__DIRECTORY": str(models_directory()),
            },
        )
    try:
        until(lambda: systemd.said("READY=1") or agent.poll() is not None, what="READY=1")
        assert systemd.said("READY=1"), log.read_text()
        # The picture has long been seen: the loop goes on showing signs of life.
        until(lambda: len(systemd.said("WATCHDOG=1")) >= 4, what="four signs of life")
        beats = systemd.said("WATCHDOG=1")
        gaps = [later - before for before, later in pairwise(beats)]
        assert max(gaps) < WATCHDOG_SECONDS
        status = subprocess.run(
            [sys.executable, "-m", "agent", "status", "--json"],
            env={**os.environ, **systemd.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        said = json.loads(status.stdout)
        assert said["state"] == "ready"
        assert said["counters"]["frames"] == 1
        assert said["detail"]["liveness"] == "on"
        # No lamps on this machine: that is an alarm, and no reason to stop.
        assert any("lamps" in alarm for alarm in said["alarms"]) == (profile == "bus-door")
        agent.terminate()
        assert agent.wait(LATE_SECONDS) == 0, log.read_text()
        assert systemd.said("STOPPING=1")
    finally:
        if agent.poll() is None:
            agent.kill()
            agent.wait(LATE_SECONDS)


def test_a_second_agent_on_the_same_state_is_refused(tmp_path: Path, systemd: Systemd) -> None:
    environment = {**os.environ, **systemd.environment, "KAOPASS_MODELS__LICENCE": "research"}
    environment["KAOPASS_LIVENESS__MODE"] = "off"  # the passengers are photographs
    first = subprocess.Popen([*RUN, picture("t1.jpg")], env=environment, stdout=subprocess.DEVNULL)
    try:
        until(lambda: systemd.said("READY=1"), what="READY=1")
        second = subprocess.run(
            [*RUN, picture("t1.jpg")],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert "running" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        first.terminate()
        first.wait(LATE_SECONDS)
