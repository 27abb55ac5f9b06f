"""A real Mosquitto on a free loopback port, started and stopped by the test that needs one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.sim.net import mosquitto as mosquitto_process
from agent.sim.net.mosquitto import LOOPBACK, free_port


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
