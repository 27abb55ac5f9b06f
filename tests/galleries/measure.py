"""How long a town's gallery takes: publish, first snapshot, a delta, twenty devices at once.

    python -m tests.galleries.measure --people 25324 --devices 20

Real Mosquitto with mutual TLS, the city side in a process of its own, random templates. The first
device applies everything as a real one would; those of the crowd only count what arrives.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from agent.base.values import LinkUp, Message
from agent.cityos.residents.residents import Newcomer
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.protocol import topics
from agent.protocol.galleries.bodies import read_part
from agent.protocol.galleries.messages import Want, sign_want
from agent.protocol.signed import Signer
from tests.galleries.conftest import City, consents, noting, now_ms
from tests.galleries.device import Device
from tests.provisioning.town import Town
from tests.waiting import until

VALUES, TEMPLATES, PACK = 512, 3, "buffalo_s"


def tell(what: str, **figures: object) -> None:
    print(json.dumps({"what": what, **figures, "load": os.getloadavg()[0]}), flush=True)  # noqa: T201


def enrol(city: City, ids: list[str], progress: Callable[[int], None]) -> None:
    rng = np.random.default_rng(5)
    given = consents("bus")
    for start in range(0, len(ids), 250):
        newcomers = []
        for person in ids[start : start + 250]:
            rows = rng.standard_normal((TEMPLATES, VALUES)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            newcomers.append(Newcomer(person, "", {PACK: rows}, given))
        city.add(newcomers)
        progress(start)


class Crowd(threading.Thread):
    """A device that asks for every bucket, 32 at a time, and only counts."""

    def __init__(self, name: str, signer: Signer, tls: Tls, port: int, position: tuple[int, int]):
        super().__init__(daemon=True)
        self.device, self.signer, self.position = name, signer, position
        self.bytes = 0
        self.seconds = 0.0
        topics = (f"kp1/{name}/d/gal/body",)
        self.link = MqttLink("localhost", port, client_id=name, tls=tls, subscriptions=topics)

    def run(self) -> None:
        self.link.open()
        began, at = time.monotonic(), 0
        missing: dict[int, int] = {}
        while True:
            for event in self.link.turn(0.2):
                if isinstance(event, LinkUp) or not missing:
                    missing = dict.fromkeys(range(at, at + 32), -1)
                    want = Want(
                        self.device, "bus", *self.position, "bucket", numbers=tuple(missing)
                    )
                    self.link.publish(topics.ASKS.of(self.device), sign_want(want, self.signer))
                elif isinstance(event, Message):
                    self.bytes += len(event.payload)
                    part = read_part(event.payload)
                    left = missing[part.label.number]
                    left = part.parts - 1 if left < 0 else left - 1
                    missing[part.label.number] = left
                    if left == 0:
                        del missing[part.label.number]
                    if not missing:
                        at += 32
                        if at == 256:
                            self.seconds = time.monotonic() - began
                            self.link.close()
                            return
                        missing = self.ask(at)

    def ask(self, at: int) -> dict[int, int]:
        numbers = tuple(range(at, at + 32))
        want = Want(self.device, "bus", *self.position, "bucket", numbers=numbers)
        self.link.publish(topics.ASKS.of(self.device), sign_want(want, self.signer))
        return dict.fromkeys(numbers, -1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=25_324)
    parser.add_argument("--devices", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        town = Town(folder)
        town.broker.start()
        (folder / "city").mkdir()
        city = City(folder / "city", str(folder / "city/city.db"), town.authority)
        try:
            measure(folder, town, city, asked.people, asked.devices)
        finally:
            town.broker.stop()
            city.close()


def measure(folder: Path, town: Town, city: City, people: int, crowd: int) -> None:
    began = time.monotonic()
    enrol(city, [f"r{n:05d}" for n in range(people)], lambda _: None)
    tell("enrol", people=people, seconds=round(time.monotonic() - began, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    began, worked = time.monotonic(), time.process_time()
    assert city.publish()
    tell(
        "publish everybody",
        seconds=round(time.monotonic() - began, 1),
        cpu_seconds=round(time.process_time() - worked, 1),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        peak_before_mb=before,
        database_mb=Path(city.database).stat().st_size >> 20,
    )
    city.withdraw("r00007", "bus", now_ms())
    began, worked = time.monotonic(), time.process_time()
    assert city.publish()
    tell(
        "publish one withdrawal",
        seconds=round(time.monotonic() - began, 2),
        cpu_seconds=round(time.process_time() - worked, 2),
    )
    server = serve(town, city)
    try:
        devices(folder, town, city, crowd, server)
    finally:
        server.terminate()
        server.wait(20)


def devices(
    folder: Path, town: Town, city: City, crowd: int, server: subprocess.Popen[str]
) -> None:
    tls, signer = credentials(folder, town, "bus-1")
    device = Device("bus-1", "bus", signer, city.trust, now_ms())
    link = MqttLink(
        "localhost", town.broker.port, client_id="bus-1", tls=tls, subscriptions=("kp1/bus-1/d/#",)
    )
    link.open()
    began = time.monotonic()
    turn(device, link, lambda: device.have == (1, 2))
    seconds = time.monotonic() - began
    tell("snapshot, one device", seconds=round(seconds, 1), mb=round(device.body_bytes / 1e6, 1))
    enrol(city, [f"new{n}" for n in range(50)], lambda _: None)
    before, began = device.body_bytes, time.monotonic()
    city.publish()
    published = time.monotonic() - began
    turn(device, link, lambda: device.have[1] >= 3)
    tell(
        "delta of 50",
        publish_seconds=round(published, 2),
        seconds=round(time.monotonic() - began, 2),
        bytes=device.body_bytes - before,
    )
    began = time.monotonic()
    city.withdraw("r00009", "bus", now_ms())
    city.publish()
    turn(device, link, lambda: device.have[1] >= 4)
    tell("withdrawal until applied", seconds=round(time.monotonic() - began, 2))
    link.close()
    threads = []
    for number in range(crowd):
        name = f"crowd-{number}"
        tls, signer = credentials(folder, town, name)
        threads.append(Crowd(name, signer, tls, town.broker.port, device.have))
    worked, began = cpu_of(server), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slowest = max(thread.seconds for thread in threads)
    total = sum(thread.bytes for thread in threads)
    tell(
        f"snapshot, {crowd} devices at once",
        seconds=round(time.monotonic() - began, 1),
        slowest=round(slowest, 1),
        mb=round(total / 1e6),
        city_cpu_seconds=round(cpu_of(server) - worked, 1),
        city_peak_mb=peak_of(server),
        city_made=f"{total / 1e6 / max(1, crowd):.1f} MB a device",
    )


def turn(device: Device, link: MqttLink, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not done():
        assert time.monotonic() < deadline
        for event in link.turn(0.05):
            if isinstance(event, Message):
                device.receive(event)
            elif isinstance(event, LinkUp):
                device.hello()
        for message in device.out:
            link.publish(message.topic, message.payload)
        device.out = []


def credentials(folder: Path, town: Town, name: str) -> tuple[Tls, Signer]:
    tls = town.device(name, folder)
    town.registry.serve(name, "bus", noting)
    assert tls.certificate is not None
    assert tls.key is not None
    return tls, Signer(tls.certificate.read_bytes(), tls.key.read_bytes())


def serve(town: Town, city: City) -> subprocess.Popen[str]:
    worker = town.ca / "workers/city-1"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "agent", "city", "serve"),
            *("--broker", f"mqtts://localhost:{town.broker.port}", "--database", city.database),
            *("--ca", str(town.ca / "ca.pem"), "--certificate", f"{worker}.pem"),
            *("--key", f"{worker}.key", "--ca-directory", str(town.ca)),
            *("--keys-directory", str(city.folder / "keys")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    until(lambda: "ready" in line, what="the city side")
    return server


def cpu_of(process: subprocess.Popen[str]) -> float:
    words = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def peak_of(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) // 1024


if __name__ == "__main__":
    main()
