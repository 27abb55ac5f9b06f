"""The boot self-test tells a broken, exchanged or wrongly fed network from "nobody there"."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.base.events import StoredEvent
from agent.base.values import DoorSignal, Vector
from agent.device.notify import from_environment
from agent.hw.keystores.file import FileKeySource
from agent.hw.models.networks.onnx import open_session
from agent.keys.ring import open_keyring
from agent.settings.model import Settings, load
from agent.sim.photographs import picture
from agent.wiring.agent import Agent
from agent.wiring.devices import camera_overrides
from agent.wiring.parts import door_networks, open_networks
from agent.wiring.selftest import self_tested
from tests import liveness_pack

RESEARCH = load(None, {"models": {"licence": "research"}})
Outputs = Callable[[Any, list[str], dict[str, Vector]], list[Vector]]


class Altered:
    """A session of which *run* does something else than it should."""

    def __init__(self, session: Any, run: Outputs) -> None:
        self._session = session
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
        return self._run(self._session, names, feed)


def swapped(session: Any, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
    turned = {name: np.ascontiguousarray(value[:, ::-1]) for name, value in feed.items()}
    found: list[Vector] = session.run(names, turned)
    return found


def nothing(session: Any, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
    return [np.zeros_like(out) for out in session.run(names, feed)]


def no_numbers(session: Any, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
    return [np.full_like(out, np.nan) for out in session.run(names, feed)]


def noisy(session: Any, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
    rng = np.random.default_rng(0)
    outputs = session.run(names, feed)
    return [(o + rng.normal(0, np.abs(o).mean() / 2, o.shape)).astype("f4") for o in outputs]


def opener(file: str, run: Outputs) -> Callable[[Path, int, str], Any]:
    def open_one(path: Path, threads: int, provider: str) -> Any:
        session = open_session(path, threads, provider)
        return Altered(session, run) if file in path.name else session

    return open_one


@pytest.mark.parametrize("pixels", [320, 640, 960])
def test_whole_networks_pass_at_any_input_size(pixels: int) -> None:
    settings = load(None, {"models": {"licence": "research", "detector_input_pixels": pixels}})
    result = self_tested(open_networks(settings))
    assert (result.fault, result.warning) == ("", "")


@pytest.mark.parametrize(
    ("file", "run", "words"),
    [
        ("w600k", swapped, "red and blue are swapped"),
        ("w600k", nothing, "differ"),
        ("w600k", noisy, "differ"),
        ("w600k", no_numbers, "not numbers"),
        ("scrfd", nothing, "finds 0 of 6"),
        ("scrfd", no_numbers, "not numbers"),
    ],
)
def test_what_is_broken_is_said(file: str, run: Outputs, words: str) -> None:
    assert words in self_tested(open_networks(RESEARCH, opener(file, run))).fault


@pytest.mark.slow
@pytest.mark.parametrize(
    ("run", "words"),
    [
        (swapped, "red and blue are swapped"),
        (nothing, "the liveness network's answers differ"),
        (no_numbers, r"fr_liveness.onnx: its output is not numbers"),
    ],
)
def test_a_broken_liveness_network_is_said_before_nobody_is_alive(
    tmp_path: Path, run: Outputs, words: str
) -> None:
    networks = door_networks(liveness_pack.settings(tmp_path), opener("fr_liveness", run))
    assert words in self_tested(networks).fault
    # Where liveness is off, its network is not asked.
    assert self_tested(replace(networks, liveness=None)).fault == ""


def test_a_whole_liveness_network_passes_and_one_without_golden_values_is_a_warning() -> None:
    networks = liveness_pack.networks()
    result = self_tested(networks)
    assert (result.fault, result.warning) == ("", "")
    assert networks.liveness_golden is not None
    assert len(networks.liveness_golden.log_odds) == 6
    silent = replace(networks.liveness_golden, log_odds=())
    for golden in (None, silent):
        result = self_tested(replace(networks, liveness_golden=golden))
        assert "'faceplugin' has no golden values" in result.warning
        assert result.fault == ""


def test_another_picture_is_a_warning_and_no_fault() -> None:
    networks = open_networks(RESEARCH)
    assert networks.golden is not None
    other = replace(networks, golden=replace(networks.golden, sha256="0" * 64))
    assert "not the one" in self_tested(other).warning
    assert "no golden values" in self_tested(replace(networks, golden=None)).warning
    assert self_tested(other).fault == ""


class Screen:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def open(self) -> None: ...

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        self.shown.append(signal.name)

    def close(self) -> None: ...


def door(folder: Path) -> Settings:
    return load(
        None,
        {
            "models": {"licence": "research"},
            "liveness": {"mode": "off"},
            "state": {"directory": str(folder)},
            "sync": {"enabled": False},
            "camera": camera_overrides(str(picture("t1.jpg"))),
        },
    )


@pytest.mark.slow
def test_with_a_failed_self_test_the_door_is_out_of_service_and_the_status_says_why(
    tmp_path: Path,
) -> None:
    ring = open_keyring(FileKeySource(tmp_path / "keys"), may_create=True)
    screen = Screen()
    notifier, watchdog = from_environment()
    agent = Agent(
        door(tmp_path),
        ring,
        displays=[screen],
        notifier=notifier,
        watchdog=watchdog,
        opener=opener("w600k", swapped),
    )
    with agent:
        agent.run(threading.Event(), until_end=True)
        health = agent.health.snapshot()
    assert any(alarm.startswith("self-test failed: red and blue") for alarm in health.alarms)
    assert screen.shown == ["out_of_service"]
    assert "frames" not in health.counters, "nobody is looked at"
