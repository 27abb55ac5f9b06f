"""A fleet against a real Mosquitto and the city side: all connect, the broker dies, all come back.

Most devices are simulated on connections of their own in one loop; a sample are real ones with a
journal on the disk and the agent's own sync. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from agent.bench.process import cpu_seconds, memory_mb
from agent.cityos.events.store import Store
from agent.journal import Journal
from agent.lab.broker import LabBroker
from agent.lab.sync import boarding, city, syncing
from agent.link.uplink.supervisor import Supervisor
from tests.fleet.devices import SimulatedDevice
from tests.fleet.verdict import compare

KEY = bytes(range(32))
GIVE_UP_SECONDS = 600.0
DESCRIPTORS = 65_536


@dataclass(frozen=True, slots=True)
class Arrival:
    """How *devices* came up: the last after ``seconds``, so many handshakes a second."""

    seconds: float
    per_second: float


@dataclass
class Fleet:
    """Simulated devices, and real ones: their journals and their sync."""

    devices: list[SimulatedDevice] = field(default_factory=list)
    journals: list[Journal] = field(default_factory=list)
    real: list[Supervisor] = field(default_factory=list)

    def appended(self) -> dict[str, Counter[str]]:
        """By device, each event's ``person``."""
        found = {device.name: device.persons for device in self.devices}
        for number, journal in enumerate(self.journals):
            last = journal.bounds(journal.epoch)[1]
            found[f"real-{number}"] = Counter(boarding(at).person for at in range(1, last + 1))
        return found


def raise_limits(wanted: int) -> None:
    """Let this process and its children hold *wanted* descriptors. Exits with what to do if not."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(f"the limit of open files is {hard}, {wanted} are needed: ulimit -Hn {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, max(hard, wanted)), hard))


async def _come_up(fleet: Fleet, begun: float, reconnects: int) -> Arrival:
    """Wait until every device is up since *begun*, real ones for the *reconnects*-th time."""
    count = len(fleet.devices) + len(fleet.real)
    real: list[float] = []
    while True:
        ups = [device.up_since for device in fleet.devices]
        times = [up for up in ups if up is not None and up >= begun]
        back = [s.status.connected and s.status.reconnects >= reconnects for s in fleet.real]
        real += [time.monotonic()] * (sum(back) - len(real))
        if len(times) + len(real) == count:
            seconds = max(*times, *real) - begun
            return Arrival(round(seconds, 1), round(count / seconds, 1))
        if time.monotonic() - begun > GIVE_UP_SECONDS:
            raise TimeoutError(f"{len(times) + len(real)} of {count} devices are up")
        await asyncio.sleep(0.1)


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return condition()


async def _work(fleet: Fleet, seconds: float) -> None:
    """Each device appends now and then, for *seconds*."""
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        for device in fleet.devices[number % 10 :: 10]:
            device.append()
        for journal in fleet.journals[number % 10 :: 10]:
            journal.append(boarding(journal.bounds(journal.epoch)[1] + 1))
        number += 1
        await asyncio.sleep(1.0)


async def drive(fleet: Fleet, broker: LabBroker, seconds: float) -> dict[str, object]:
    """Bring all up, let them work, kill the broker, let all come back; figures of it."""
    begun = time.monotonic()
    tasks = [asyncio.ensure_future(device.live()) for device in fleet.devices]
    try:
        first = await _come_up(fleet, begun, 0)
        click.echo(f"all up after {first.seconds} s", err=True)
        await _work(fleet, seconds / 2)
        broker_peak = memory_mb(broker.pid)[1]
        broker.stop(kill=True)
        begun = time.monotonic()
        broker.start()
        work = asyncio.ensure_future(_work(fleet, seconds / 2))
        again = await _come_up(fleet, begun, 1)
        click.echo(f"all back {again.seconds} s after the broker's restart", err=True)
        await work
        drained = await _until(
            lambda: (
                all(device.drained for device in fleet.devices)
                and not any(journal.pending(journal.epoch, 0, 1) for journal in fleet.journals)
            ),
            120.0,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.2)  # for the loop to let go of the sockets
    return {
        "connect_seconds": first.seconds,
        "connect_per_second": first.per_second,
        "back_seconds": again.seconds,
        "back_per_second": again.per_second,
        "drained": drained,
        "broker_peak_mb": max(broker_peak, memory_mb(broker.pid)[1]),
    }


def run(
    root: Path, *, count: int, real: int, seconds: float, tls: bool, database: str
) -> dict[str, object]:
    """A fleet of *count* devices, *real* of them with journals; figures, events counted.

    The devices' peak is that of the one process all of them live in; ``device_kb`` is what it has
    grown by for each.
    """
    raise_limits(2 * count + 256)
    empty_mb = memory_mb(os.getpid())[0]
    fleet = Fleet()
    with ExitStack() as stack:
        broker = stack.enter_context(LabBroker(root / "broker", "max_queued_messages 0", tls=tls))
        context = ssl.create_default_context(cafile=str(broker.authority)) if tls else None
        process = stack.enter_context(city(broker.address, database))
        for number in range(real):
            path = root / f"{number}.db"
            fleet.journals.append(stack.enter_context(Journal(path, KEY)))

            def opened(path: Path = path) -> Journal:
                return Journal(path, KEY)

            fleet.real.append(
                stack.enter_context(syncing(f"real-{number}", broker.address, opened))
            )
        fleet.devices = [
            SimulatedDevice(f"sim-{number}", broker.port, context) for number in range(count - real)
        ]
        found = asyncio.run(drive(fleet, broker, seconds))
        found["city_peak_mb"] = memory_mb(process.pid)[1]
        found["city_cpu_seconds"] = round(cpu_seconds(process.pid), 1)
        # The broker that runs now: it has been there since the restart.
        found["broker_cpu_seconds"] = round(cpu_seconds(broker.pid), 1)
        devices_mb = memory_mb(os.getpid())[1]
        appended = fleet.appended()
    lost, duplicated = compare(database, appended)
    store = Store(database, create=False)
    try:
        lag = sum(pulse.lag for pulse in store.pulses())
    finally:
        store.close()
    return {
        "devices": count,
        "real_journals": real,
        "tls": tls,
        **found,
        "devices_peak_mb": devices_mb,
        "device_kb": round(1024 * (devices_mb - empty_mb) / count, 1),
        "events": sum(each.total() for each in appended.values()),
        "lost": lost,
        "duplicated": duplicated,
        "lag": lag,
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fleet", description=__doc__)
    parser.add_argument("--devices", type=int, default=2_000)
    parser.add_argument("--real", type=int, default=20, help="so many of them have a real journal")
    parser.add_argument("--seconds", type=float, default=60.0, help="of work, half before the kill")
    parser.add_argument("--tls", action="store_true", help="encrypt every connection")
    parser.add_argument("--database", default="", help="the city's; default: SQLite")
    parser.add_argument("--json", action="store_true", help="nothing but the last line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaopass-fleet-") as name:
        root = Path(name)
        found = run(
            root,
            count=given.devices,
            real=min(given.real, given.devices),
            seconds=given.seconds,
            tls=given.tls,
            database=given.database or str(root / "city.db"),
        )
    if not given.json:
        for key, value in found.items():
            click.echo(f"{key:<20} {value}", err=True)
    click.echo(json.dumps(found))
    sys.exit(0 if found["drained"] and not found["lost"] and not found["duplicated"] else 1)


if __name__ == "__main__":
    main()
