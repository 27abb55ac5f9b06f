"""Figures of galleries over the wire.

``python -m tests.link.galleries.measure [PEOPLE [DEVICES]]``.

A scripted city in a process of its own, a real Mosquitto, and devices in this one: first version,
versions of 50 changes, another template key for everybody. Seconds from the city's announcement;
``waited`` is the longest that another writer of the gallery had to wait meanwhile.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.base.values import Vector
from agent.protocol.galleries.records import Record, encode_record
from agent.protocol.signed import Signer, Trust
from tests.link.galleries.scripted.city import ScriptedCity
from tests.link.galleries.scripted.live import LiveCity, LiveDevice
from tests.mosquitto import Mosquitto
from tests.protocol.town import make_town
from tests.waiting import until

PACK = "buffalo_s"


def unit(chance: np.random.Generator) -> Vector:
    rows = chance.standard_normal((3, 512)).astype(np.float32)
    found: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return found


def serve(folder: Path, port: int, people: int, names: list[str]) -> None:
    """The city: a word on standard input publishes, a line on standard output says it is done."""
    town = make_town(folder / "ca")
    for name in names:
        signer = town.device(name)
        (folder / f"{name}.pem").write_bytes(signer._certificate.public_bytes(Encoding.PEM))
        key = signer._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.key").write_bytes(key)
    (folder / "authorities.pem").write_bytes(town.authority.certificates_pem())
    city = ScriptedCity(town, pack=PACK)
    chance = np.random.default_rng(1)

    def record(name: str) -> bytes:
        return encode_record(Record(name, ("bus",), templates={PACK: unit(chance)}))

    everybody = [f"resident-{n:05d}" for n in range(people)]
    city.publish({name: record(name) for name in everybody})
    with LiveCity(city, port, names) as live:
        for word in ("first", "delta", "delta", "delta", "rekey"):
            sys.stdin.readline()
            number = len(city.versions)
            if word == "delta":
                gone = everybody[number * 10 : number * 10 + 10]
                city.publish(
                    {f"new-{number}-{n}": record(f"new-{number}-{n}") for n in range(40)}, gone
                )
            elif word == "rekey":
                city.rekey()
                city.floor = number + 1
                left = [name for name in everybody if name not in everybody[10 : number * 10]]
                city.publish({name: record(name) for name in left})
            at = live.announce()
            said = {"word": word, "at": at, "gone": everybody[number * 10]}
            sys.stdout.write(json.dumps(said) + "\n")
            sys.stdout.flush()
            sys.stdin.readline()
            sys.stdout.write(f"{live.published_bytes}\n")
            sys.stdout.flush()
            live.published_bytes = 0


class Writer(threading.Thread):
    """Somebody else who wants to write into *path*, such as an enrolment."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.path, self.longest, self.done = path, 0.0, False

    def run(self) -> None:
        while not self.done:
            db = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            begun = time.monotonic()
            db.execute("BEGIN IMMEDIATE")
            self.longest = max(self.longest, time.monotonic() - begun)
            db.execute("ROLLBACK")
            db.close()
            time.sleep(0.02)


def resident_mb(what: str = "VmRSS") -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(what))


def measure(people: int, count: int) -> None:
    names = [f"bus-{n}" for n in range(count)]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with Mosquitto(folder / "broker", "max_queued_messages 100000") as broker:
            city = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.link.galleries.measure", "--city", place),
                    *(str(broker.port), str(people), ",".join(names)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert city.stdin is not None
            assert city.stdout is not None
            for step in range(5):
                city.stdin.write("go\n")
                city.stdin.flush()
                said = json.loads(city.stdout.readline())
                if not step:
                    before = resident_mb()
                    devices = [make(folder, name, broker.port) for name in names]
                    for device in devices:
                        device.__enter__()
                writer = Writer(devices[0].path)
                writer.start()
                found: dict[str, Any] = {"what": said["word"], "people": people}
                if said["word"] == "delta":
                    found["not_matched"] = waits(devices, said, not_matched)
                found["in_force"] = waits(devices, {**said, "version": step + 1}, in_force)
                found["confirmed"] = waits(devices, said, confirmed)
                writer.done = True
                city.stdin.write("bytes\n")
                city.stdin.flush()
                found |= {
                    "sent_mb": round(int(city.stdout.readline()) / 1e6, 2),
                    "waited": round(writer.longest, 3),
                    "memory_mb": [before, resident_mb(), resident_mb("VmHWM")],
                    "load": os.getloadavg()[0],
                }
                sys.stdout.write(json.dumps(found) + "\n")
                sys.stdout.flush()
                time.sleep(3)
            for device in devices:
                device.__exit__()
            city.stdin.close()
            city.wait(20)


def not_matched(device: LiveDevice, said: dict[str, Any]) -> bool:
    return not device.downlink.admission.admits(said["gone"])


def in_force(device: LiveDevice, said: dict[str, Any]) -> bool:
    return device.version == int(said["version"])


def confirmed(device: LiveDevice, said: dict[str, Any]) -> bool:
    del said
    intake = device.downlink._intake
    return intake is not None and not intake._nonces


def make(folder: Path, name: str, port: int) -> LiveDevice:
    signer = Signer((folder / f"{name}.pem").read_bytes(), (folder / f"{name}.key").read_bytes())
    trust = Trust((folder / "authorities.pem").read_bytes())
    town: Any = type("Town", (), {"trust": trust})
    return LiveDevice(folder / name, name, port, town, signer=signer, ask_ms=10_000)


def waits(devices: list[LiveDevice], said: dict[str, Any], condition: Any) -> list[float]:
    """Median and slowest seconds until *condition* held on each device."""
    taken: dict[str, float] = {}

    def look() -> bool:
        for device in devices:
            if device.name not in taken and condition(device, said):
                taken[device.name] = time.monotonic() - said["at"]
        return len(taken) == len(devices)

    until(look, said["word"], seconds=3_600)
    values = sorted(taken.values())
    return [round(values[len(values) // 2], 3), round(values[-1], 3)]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--city"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5].split(","))
    else:
        given = [int(text) for text in sys.argv[1:3]]
        measure(*[*given, *(25_324, 1)[len(given) :]])
