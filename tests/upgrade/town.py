"""One town of two halves, each of whichever version: what is asked of it is asked by command.

A version is a checkout; its ``agent`` comes before the installed one, on the same packages. The
town is a city side with its EST server, a Mosquitto with the shipped rules, and one door that shows
the photograph of one resident over and over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from agent.sim.net.mosquitto import Mosquitto, free_port
from agent.sim.photographs import picture, read_picture

DOOR, SERIAL, ANNA, BEN = "bus-1", "S1", "anna", "ben"
PHOTOGRAPH = "yaoming.jpg"  # of one person alone
PATIENCE_SECONDS = 120.0


class UpgradeError(AssertionError):
    """Something did not come about; the message has what was said."""


def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for *condition*. Raises UpgradeError with *what*."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise UpgradeError(f"not within {PATIENCE_SECONDS:g} s: {what()}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Version:
    """A checkout, run by *python* with that checkout's ``agent``."""

    name: str
    checkout: Path
    python: str = sys.executable

    def command(self, *arguments: object) -> tuple[list[str], dict[str, str]]:
        """The command line of ``kaopass`` with *arguments*, and its environment."""
        line = [self.python, "-m", "agent", *map(str, arguments)]
        return line, {**os.environ, "PYTHONPATH": str(self.checkout)}

    def check(self) -> None:
        """Raises UpgradeError unless it is this checkout's code that runs."""
        _, environment = self.command()
        told = subprocess.run(
            [self.python, "-c", "import agent; print(agent.__file__)"],
            cwd="/",
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        if Path(told) != self.checkout / "agent" / "__init__.py":
            raise UpgradeError(f"{self.name}: {told} would run, not {self.checkout}")


class Running:
    """A ``kaopass`` process; what it says goes to *log*."""

    def __init__(self, version: Version, folder: Path, log: Path, *arguments: object) -> None:
        self.log = log
        self._begun = log.stat().st_size if log.exists() else 0
        line, environment = version.command(*arguments)
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                line, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        with self.log.open("rb") as file:
            file.seek(self._begun)
            return file.read().decode(errors="replace")

    def wait_for(self, words: str) -> None:
        until(
            lambda: words in self.said() or self.process.poll() is not None,
            lambda: f"{words!r} in {self.said()}",
        )
        if words not in self.said():
            raise UpgradeError(f"ended with {self.process.poll()}: {self.said()}")

    def end(self) -> None:
        self.process.terminate()
        code = self.process.wait(PATIENCE_SECONDS)
        if code != 0:
            raise UpgradeError(f"exit code {code}: {self.said()}")

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            if kind is None:
                self.end()
            else:
                self.process.kill()
                self.process.wait()


class MixedTown:
    """A town below *folder* whose database is at *database*; which version does what is said."""

    def __init__(self, folder: Path, database: str, boardings: int) -> None:
        self.folder, self.database, self.boardings = folder, database, boardings
        self.ca = folder / "city-ca"
        self.state = folder / "state"
        self.settings = folder / "door.toml"
        port, self.est_port = free_port(), free_port()
        rules = folder / "rules"
        pid_file = folder / "broker.pid"
        self.broker = Mosquitto(
            folder / "broker", port, (f"pid_file {pid_file}", f"include_dir {rules}")
        )
        self._rules = ("--directory", rules, "--pid-file", pid_file)
        self.settings.write_text(
            f'[device]\nname = "{DOOR}"\nserial = "{SERIAL}"\n'
            f'[place]\nname = "bus-7"\nrepeat_seconds = 0\n'
            f'[sync]\nhost = "localhost"\nport = {port}\nretry_min_seconds = 0.1\n'
            f"retry_max_seconds = 0.5\nbatch_seconds = 0.1\n"
            f'[state]\ndirectory = "{self.state}"\n[gallery]\nsource = "city"\n'
            '[models]\nlicence = "research"\n[liveness]\nmode = "off"\n'
            '[enrolment]\nmin_images = 1\n[camera]\npace = "fast"\nloop = true\n'
            "[vision]\nlost_seconds = 0.15\n"
        )
        self.clip = self._clip()

    def _clip(self) -> Path:
        """The resident at the door, then an empty door."""
        clip = self.folder / "clip"
        clip.mkdir()
        empty = self.folder / "empty.png"
        cv2.imwrite(str(empty), np.full_like(read_picture(PHOTOGRAPH), 127))
        for index in range(7):
            shown = picture(PHOTOGRAPH) if index < 4 else empty
            (clip / f"{index:03d}{shown.suffix}").symlink_to(shown)
        return clip

    # Commands.

    def run(self, version: Version, *arguments: object, code: int = 0) -> str:
        line, environment = version.command(*arguments)
        done = subprocess.run(
            line, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != code:
            told = f"{done.stdout}{done.stderr}"
            raise UpgradeError(f"{version.name}: {' '.join(line[3:])}: {done.returncode}: {told}")
        return done.stdout

    def rows(self, version: Version, *arguments: object) -> list[Any]:
        """What a command with ``--json`` printed."""
        told = self.run(version, *arguments, "--json")
        return [json.loads(line) for line in told.splitlines()]

    def town(self, version: Version, *arguments: object) -> list[Any]:
        """The same of a city command that needs authority and database."""
        places = ("--ca-directory", self.ca, "--database", self.database)
        return self.rows(version, "city", *arguments, *places)

    def device(self, version: Version, *arguments: object) -> list[Any]:
        return self.rows(version, *arguments, "--settings", self.settings)

    def found(self, version: Version) -> None:
        """Authority and rules of the broker, which runs afterwards."""
        place = ("--ca-directory", self.ca)
        self.run(version, "city", "ca", "init", "--host", "localhost", "--name", "Izumi", *place)
        where = ("--host", "localhost", "--port", self.broker.port, "--bind", "127.0.0.1")
        self.run(version, "city", "broker-config", *where, *self._rules, *place)
        self.broker.start()

    def claim(self, version: Version, name: str, serial: str) -> str:
        """A claim's code."""
        place = ("--ca-directory", self.ca)
        (told,) = self.rows(version, "city", "claim", name, "--serial", serial, *place)
        return str(told["claim"])

    def provision(self, version: Version, claim: str, settings: Path | None = None) -> None:
        with self.est(version):
            server = f"https://localhost:{self.est_port}"
            where = ("--server", server, "--claim", claim, "--ca", self.ca / "ca.pem")
            self.run(version, "provision", *where, "--settings", settings or self.settings)

    # Processes.

    @contextmanager
    def est(self, version: Version) -> Iterator[Running]:
        where = ("--listen", "127.0.0.1", "--port", self.est_port, "--ca-directory", self.ca)
        with self._process(version, "est", "city", "est", *where) as est:
            est.wait_for("ready")
            yield est

    @contextmanager
    def city(self, version: Version) -> Iterator[Running]:
        worker = self.ca / "workers" / "city-1"
        where = (
            *("--broker", f"mqtts://localhost:{self.broker.port}", "--ca", self.ca / "ca.pem"),
            *("--certificate", worker.with_suffix(".pem"), "--key", worker.with_suffix(".key")),
            *("--ca-directory", self.ca, "--database", self.database),
        )
        with self._process(version, "city", "city", "serve", *where) as city:
            city.wait_for("ready")
            yield city

    @contextmanager
    def door(self, version: Version) -> Iterator[Running]:
        arguments = ("run", "--settings", self.settings, "--camera", self.clip, "--json")
        with self._process(version, "door", *arguments) as door:
            yield door

    def _process(self, version: Version, name: str, *arguments: object) -> Running:
        return Running(version, self.folder, self.folder / f"{name}.log", *arguments)

    def boarded(self, door: Running) -> list[tuple[str, int]]:
        """(epoch, seq) of every boarding that *door* has told a passenger."""
        told = []
        for line in door.said().splitlines():
            with suppress(ValueError):
                signal = json.loads(line)
                if signal.get("seq") is not None:
                    told.append((signal["epoch"], signal["seq"]))
        return told
