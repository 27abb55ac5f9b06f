"""A town's gallery on real devices: first snapshot, a delta, another template key, revocations.

Real Mosquitto with the shipped rules and mutual TLS, the city side as its own process, each device
in a process of its own with the agent's downlink, gallery file and search. Residents are made-up
templates. Figures come as a table on standard error; the last line is JSON.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from agent.base.values import Vector
from agent.cityos.residents.residents import Newcomer
from tests.galleries.conftest import City, consents, noting
from tests.galleries.measure import serve
from tests.provisioning.town import Town
from tests.vectors import unit

VALUES, PACK = 512, "buffalo_s"
SPARE = 2  # people at every door beside those who will be revoked
GIVE_UP_SECONDS = 1800.0
AWAY_SECONDS = 5.0  # how long a device that was away is watched for a match


@dataclass
class Device:
    """A device's process, what it last said, and everything it said of its probes."""

    name: str
    settings: Path
    probes: Path
    process: subprocess.Popen[str] | None = None
    version: int = 0
    bytes: int = 0
    people: int = 0
    peak_mb: int = 0
    seen: dict[int, bool] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    at: dict[int, float] = field(default_factory=dict)  # version -> when it was in force

    def start(self, said: queue.Queue[tuple[Device, dict[str, Any]]]) -> None:
        command = [sys.executable, "-m", "tests.fleet.gallerydevice", self.settings, self.probes]
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Each stands for a board of its own: twenty must not wait for each other's threads.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        self.seen = {}
        threading.Thread(target=self._listen, args=(self.process, said), daemon=True).start()

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)

    def _listen(
        self, process: subprocess.Popen[str], said: queue.Queue[tuple[Device, dict[str, Any]]]
    ) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.put((self, json.loads(line)))

    def heard(self, facts: dict[str, Any]) -> None:
        self.told.append(facts)
        if "probe" in facts:
            self.seen[facts["probe"]] = facts["matched"]
        elif "people" in facts:
            self.version, self.bytes = facts["version"], facts["bytes"]
            self.people, self.peak_mb = facts["people"], facts["peak_mb"]
            self.at[self.version] = facts["t"]


class Fleet:
    """The town, its city side, and its devices."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.town = Town(folder)
        self.town.broker.start()
        (folder / "city").mkdir()
        self.city = City(folder / "city", str(folder / "city/city.db"), self.town.authority)
        self.server: subprocess.Popen[str] | None = None
        self.said: queue.Queue[tuple[Device, dict[str, Any]]] = queue.Queue()
        self.devices: list[Device] = []
        self.figures: dict[str, Any] = {}

    def close(self) -> None:
        for device in self.devices:
            device.stop()
        if self.server is not None:
            self.server.terminate()
            self.server.wait(20)
        self.town.broker.stop()
        self.city.close()

    def tell(self, what: str, **figures: Any) -> None:
        self.figures[what] = figures
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        click.echo(f"{what:<34} {shown}", err=True)

    def enrol(self, ids: list[str], rows: Callable[[int], Vector]) -> None:
        given = consents("bus")
        own = self.city.residents.own
        for start in range(0, len(ids), 250):
            batch = ids[start : start + 250]
            self.city.add(
                [
                    Newcomer(person, "", {PACK: own.apply(rows(start + n))}, given)
                    for n, person in enumerate(batch)
                ]
            )

    def add_device(self, probes: Vector) -> Device:
        name = f"bus-{len(self.devices) + 1}"
        tls = self.town.device(name, self.folder)
        self.town.registry.serve(name, "bus", noting)
        home = self.folder / name
        home.mkdir()
        settings, file = home / "settings.toml", home / "probes.npy"
        np.save(file, probes)
        settings.write_text(
            f'[device]\nname = "{name}"\n[place]\nkind = "bus"\n'
            f'[gallery]\nsource = "city"\n[models]\npack = "{PACK}"\n'
            f'[sync]\nhost = "localhost"\nport = {self.town.broker.port}\n'
            f'ca_file = "{tls.ca}"\ncertificate_file = "{tls.certificate}"\n'
            f'private_key_file = "{tls.key}"\nretry_max_seconds = 5.0\n'
            f'[state]\ndirectory = "{home / "state"}"\n'
        )
        device = Device(name, settings, file)
        self.devices.append(device)
        return device

    def until(self, done: Callable[[], bool], what: str, seconds: float = GIVE_UP_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                raise click.ClickException(f"not within {seconds:.0f} s: {what}")
            try:
                device, facts = self.said.get(timeout=0.2)
            except queue.Empty:
                continue
            device.heard(facts)

    def unseen(self, number: int) -> bool:
        """Whether no device matches resident *number* any more."""
        return not any(device.seen[number] for device in self.devices)

    def listen(self, seconds: float) -> None:
        """Hear what the devices say for that long."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end, "")

    def command(self, *arguments: str) -> None:
        """A command of the city's own command line, as a clerk types it."""
        where = ("--ca-directory", str(self.town.ca), "--database", self.city.database)
        keys = ("--keys-directory", str(self.city.folder / "keys"))
        command = [sys.executable, "-m", "agent", "city", *arguments, *where, *keys]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"kaopass city {' '.join(arguments)}: {done.stderr}")


def faces(number: int, count: int) -> Vector:
    """Made-up templates of one resident, float32 (count, VALUES), alike among each other."""
    rng = np.random.default_rng(number)
    return unit(rng.standard_normal(VALUES) + 0.2 * rng.standard_normal((count, VALUES)))


def measure(fleet: Fleet, people: int, templates: int, count: int, revocations: int) -> None:
    probes = np.concatenate([faces(number, templates)[:1] for number in range(revocations + SPARE)])
    began = time.monotonic()
    fleet.enrol([f"r{n:05d}" for n in range(people)], lambda n: faces(n, templates))
    enrolled = time.monotonic()
    assert fleet.city.publish()
    fleet.tell(
        "publish",
        people=people,
        templates=people * templates,
        enrol_seconds=round(enrolled - began, 1),
        publish_seconds=round(time.monotonic() - enrolled, 1),
    )
    fleet.server = serve(fleet.town, fleet.city)
    first = fleet.add_device(probes)
    _snapshot(fleet, [first], people)
    _delta(fleet, first, people, templates)
    _rekey(fleet, first)
    rest = [fleet.add_device(probes) for _ in range(count - 1)]
    if rest:
        _snapshot(fleet, rest, people + 50)
    if revocations:
        _revoke(fleet, revocations)
        _away(fleet, revocations)


def _snapshot(fleet: Fleet, devices: list[Device], people: int) -> None:
    began = time.monotonic()
    for device in devices:
        device.start(fleet.said)
    fleet.until(lambda: all(d.people == people for d in devices), "the first snapshot")
    ends = [max(device.at.values()) - began for device in devices]
    fleet.tell(
        f"first snapshot, {len(devices)} at once",
        seconds=round(max(ends), 1),
        fastest_seconds=round(min(ends), 1),
        mb_each=round(max(device.bytes for device in devices) / 1e6, 1),
        device_peak_mb=max(device.peak_mb for device in devices),
    )


def _delta(fleet: Fleet, device: Device, people: int, templates: int) -> None:
    fleet.enrol([f"n{n:03d}" for n in range(50)], lambda n: faces(10**6 + n, templates))
    before, began = device.bytes, time.monotonic()
    fleet.city.publish()
    published = time.monotonic()
    fleet.until(lambda: device.people == people + 50, "the delta")
    fleet.tell(
        "delta of 50",
        publish_seconds=round(published - began, 2),
        seconds=round(max(device.at.values()) - began, 2),
        bytes=device.bytes - before,
    )


def _rekey(fleet: Fleet, device: Device) -> None:
    before, version, began = device.bytes, device.version, time.monotonic()
    fleet.command("gallery", "rekey", "bus")
    fleet.city.publish()
    published = time.monotonic()
    fleet.until(
        lambda: device.version > version and any(device.seen.values()), "the other template key"
    )
    fleet.tell(
        "another template key",
        publish_seconds=round(published - began, 1),
        seconds=round(max(device.at.values()) - began, 1),
        mb=round((device.bytes - before) / 1e6, 1),
    )


def _revoke(fleet: Fleet, revocations: int) -> None:
    """From the clerk's command to no device matching, which each looks at 50 times a second."""
    times: list[float] = []
    doors = range(revocations + SPARE)
    fleet.until(lambda: all(d.seen.get(n) for d in fleet.devices for n in doors), "all matched")
    for number in range(revocations):
        began = time.monotonic()
        fleet.command("consent", "withdraw", f"r{number:05d}", "--purpose", "bus")
        fleet.until(partial(fleet.unseen, number), "revocation", 120)
        for device in fleet.devices:
            last = [f for f in device.told if f.get("probe") == number and not f["matched"]][-1]
            times.append(last["t"] - began)
    fleet.tell(
        f"revocation, {len(fleet.devices)} devices",
        revocations=revocations,
        p50_seconds=round(float(np.percentile(times, 50)), 2),
        p95_seconds=round(float(np.percentile(times, 95)), 2),
        most_seconds=round(max(times), 2),
    )


def _away(fleet: Fleet, number: int) -> None:
    """A device is off while somebody is revoked, and comes back: with the city there, and not."""
    device = fleet.devices[0]
    device.stop()
    fleet.command("consent", "withdraw", f"r{number:05d}", "--purpose", "bus")
    matches = {}
    for how in ("broker unreachable", "back"):
        if how == "broker unreachable":
            fleet.town.broker.stop()
        else:
            fleet.town.broker.start()
        heard = len(device.told)
        device.start(fleet.said)
        if how == "back":
            fleet.until(lambda: any(device.seen.values()), "faces on again", 300)
        fleet.listen(AWAY_SECONDS)
        told = [f for f in device.told[heard:] if f.get("matched")]
        matches[how] = sum(f["probe"] == number for f in told)
        device.stop()
    fleet.tell(
        "revoked while a device was off",
        matched_before_the_city_was_heard=matches["broker unreachable"],
        matched_after_coming_back=matches["back"],
    )


@click.command()
@click.option("--people", default=25_324, show_default=True, help="Residents.")
@click.option("--templates", default=3, show_default=True, help="Templates of each.")
@click.option("--devices", default=20, show_default=True, help="Devices in all.")
@click.option("--revocations", default=10, show_default=True, help="Revocations, one by one.")
def main(people: int, templates: int, devices: int, revocations: int) -> None:
    """A town's gallery on real devices, measured."""
    if devices < 1 or revocations < 0 or people < revocations + SPARE:
        raise click.UsageError(
            f"at least 1 device, and {SPARE} people more than there are revocations"
        )
    with tempfile.TemporaryDirectory() as name:
        fleet = Fleet(Path(name))
        try:
            measure(fleet, people, templates, devices, revocations)
        finally:
            fleet.close()
    click.echo(json.dumps(fleet.figures))


if __name__ == "__main__":
    main()
