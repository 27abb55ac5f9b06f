"""A real Mosquitto on a free loopback port, started and stopped by the test that needs one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.sim.net import mosquitto as mosquitto_process
from agent.sim.net.mosquitto import LOOPBACK, free_port


def until(condition: Callable[[], object], seconds: float = 15.0, what: str = "") -> None:
    """Wait for *condition*; fail the test if it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or condition}")
        time.sleep(0.02)


class Mosquitto(mosquitto_process.Mosquitto):
    """One broker on a free port; *options* are further lines of its configuration."""

    def __init__(self, folder: Path, *options: str, anonymous: bool = True) -> None:
        port = free_port()
        lines = [
            "per_listener_settings false",
            f"listener {port} {LOOPBACK}",
            f"allow_anonymous {str(anonymous).lower()}",
            *options,
        ]
        super().__init__(folder, port, lines)

    def kill(self) -> None:
        """SIGKILL: it vanishes."""
        self.stop(kill=True)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A running broker that lets anybody in."""
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker
