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


@pytest.fixture(scope="session")
def mosquitto_program() -> str:
    """Where it is installed; what starts a broker asks for this, and is marked by it."""
    program = mosquitto_process.find_mosquitto()
    if program is None:
        pytest.fail("Mosquitto is missing: apt-get install mosquitto (scripts/test does it)")
    return program


@pytest.fixture
def mosquitto(tmp_path: Path, mosquitto_program: str) -> Iterator[Mosquitto]:
    """A running broker that lets anybody in."""
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker
