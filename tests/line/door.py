"""A whole door for the tests: real networks, real files, real processes, real passengers.

The passengers are the people in the photographs that installed packages carry. Their pictures are
never written anywhere: a folder of symbolic links shows them to the agent as a clip.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import pytest

from agent.base.events import person_of
from agent.base.values import Vector
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.journal import Journal
from agent.keys.ring import KeyRing, open_keyring
from agent.settings.model import load
from agent.sim.photographs import picture, read_picture
from agent.wiring.parts import Networks, open_networks, quality_gate
from tests.mosquitto import Mosquitto
from tests.waiting import LATE_SECONDS, until

DEVICE = "door-1"
KAOPASS = (sys.executable, "-m", "agent")


@cache
def networks() -> Networks:
    """The default pack, opened once for all tests of this process."""
    return open_networks(load(None, {"models": {"licence": "research"}}))


@cache
def people_of(name: str, pack: Callable[[], Networks] = networks) -> dict[str, Vector]:
    """Every person of a photograph whose face the door would accept, with their embedding."""
    image = read_picture(name)
    gate = quality_gate(load())
    faces = [f for f in pack().detector.detect(image) if gate.judge(image, f).usable]
    rows = pack().embedder.embed(image, faces)
    return {f"resident-{name}-{n:02d}": row[np.newaxis] for n, row in enumerate(rows)}


class Door:
    """The agent of one door as a process of its own, with its state under *folder*."""

    def __init__(self, folder: Path, broker_port: int, **settings: dict[str, Any]) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir(parents=True)
        self._ring: KeyRing | None = None
        self.process: subprocess.Popen[str] | None = None
        self._listener = threading.Thread()
        self.ledger: list[tuple[str, int]] = []
        self._notices: queue.Queue[dict[str, Any]] = queue.Queue()
        sections: dict[str, dict[str, Any]] = {
            "device": {"name": DEVICE},
            "place": {"name": "izumi-bus-7", "repeat_seconds": 0},
            "models": {"licence": "research", "threads": 2},
            "liveness": {"mode": "off"},  # the passengers are photographs
            "state": {"directory": str(self.state)},
            "vision": {"lost_seconds": 0.15},
            "camera": {"pace": "fast", "loop": True},
            "sync": {
                "host": "127.0.0.1",
                "port": broker_port,
                "tls": False,
                "batch_seconds": 0.1,
                "ack_timeout_seconds": 2.0,
                "retry_min_seconds": 0.1,
                "retry_max_seconds": 0.5,
            },
        }
        for section, values in settings.items():
            sections.setdefault(section, {}).update(values)
        self.settings = folder / "settings.toml"
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        self.settings.write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def ring(self) -> KeyRing:
        if self._ring is None:
            self._ring = open_keyring(FileKeySource(self.state / "keys"), may_create=True)
        return self._ring

    def enrol(self, people: dict[str, Vector], nickname: str = "") -> None:
        with Gallery(self.state / "gallery.db", self.ring, networks().embedder.pack) as gallery:
            for person, templates in people.items():
                rotated = gallery.protection.apply(templates)
                gallery.enroll(person, rotated, nickname, now_ms=1_790_000_000_000)

    def queue_of(self, name: str = "players.jpg", *, shown: int = 4, gone: int = 3) -> Path:
        """A folder that shows the people of a photograph, then an empty door, as a clip."""
        clip = self.folder / f"clip of {name}"
        if clip.exists():
            return clip
        clip.mkdir()
        image = read_picture(name)
        empty = self.folder / "empty.png"
        cv2.imwrite(str(empty), np.full_like(image, 127))
        for index in range(shown + gone):
            link = clip / f"{index:03d}{picture(name).suffix if index < shown else '.png'}"
            link.symlink_to(picture(name) if index < shown else empty)
        return clip

    def start(self, camera: Path, *options: str, env: dict[str, str] | None = None) -> None:
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *KAOPASS,
                    "run",
                    "--settings",
                    self.settings,
                    "--camera",
                    camera,
                    "--json",
                    *options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **(env or {})},
            )
        # A life of its own: what the last one said no longer counts.
        self._notices = queue.Queue()
        heard = [self.process, self._notices]
        self._listener = threading.Thread(target=self._listen, args=heard, daemon=True)
        self._listener.start()

    def _listen(self, process: subprocess.Popen[str], notices: queue.Queue[dict[str, Any]]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):
                    return  # cut off by the kill: the journal has it, nobody was told
                notice = json.loads(line)
                if notice["seq"] is not None:
                    self.ledger.append((notice["epoch"], notice["seq"]))
                notices.put(notice)

    def wait_for(self, signal_name: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self._notices.get(timeout=0.2)["signal"] == signal_name:
                    return
            except queue.Empty:
                assert self.process is not None
                assert self.process.poll() is None, self.log()
        pytest.fail(f"no {signal_name!r} within {seconds} s\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "agent.log").read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LATE_SECONDS)
        self._listener.join(LATE_SECONDS)

    def stop(self) -> None:
        """SIGTERM. Fails the test unless it exits with 0."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(LATE_SECONDS)
        assert code == 0, f"exit code {code}\n{self.log()}"
        self._listener.join(LATE_SECONDS)

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(LATE_SECONDS)


@contextmanager
def city(folder: Path, broker: Mosquitto) -> Iterator[Path]:
    """`kaopass city serve` as a process of its own; yields its database."""
    database = folder / "city.db"
    log, address = folder / "city.log", f"mqtt://127.0.0.1:{broker.port}"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*KAOPASS, "city", "serve", "--database", database, "--broker", address],
            stdout=out,
            stderr=out,
        )
    try:
        begun = log.stat().st_size if log.exists() else 0
        until(lambda: b"ready" in log.read_bytes()[begun:], "the city side to be ready")
        yield database
    finally:
        process.terminate()
        assert process.wait(LATE_SECONDS) == 0


def at_city(database: Path) -> list[tuple[str, int, str]]:
    """(epoch, seq, person) of every event the city has of this door, in order."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return connection.execute(
            "SELECT epoch, seq, person FROM event WHERE device = ? ORDER BY epoch, seq", [DEVICE]
        ).fetchall()
    finally:
        connection.close()


def in_journal(door: Door) -> list[tuple[str, int, str]]:
    """The same of what the door's journal holds."""
    with Journal(door.state / "journal.db", door.ring.journal_key(), read_only=True) as journal:
        return [
            (entry.epoch, entry.seq, person_of(entry.event))
            for entry in journal.entries()
            if entry.event is not None
        ]
