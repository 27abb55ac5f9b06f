"""Hours of events with a fault every minute: do memory, threads and descriptors stay flat?

One real device (journal and sync in a process of its own) and one city worker, on a real
Mosquitto. Faults in turn: the broker killed, the broker silent, the city side stopped for some
seconds, the city asked for a replay. No fault ends one of the two processes that are measured.
The drift compares the median of the last quarter with that of the second: the first is warm-up.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import click

from agent.bench.broker import Broker
from agent.bench.sync import boarding, city, syncing
from agent.cityos.store import Store
from agent.device.clock import SystemClock
from agent.journal import Journal
from agent.sync.commands import Replay, replay_arguments
from tests.fleet.run import peak_mb

KEY = bytes(range(32))
DEVICE = "soak"
SAMPLE_SECONDS = 5.0
SILENT_SECONDS = 8.0
UPKEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment."""

    rss_mb: float
    threads: int
    descriptors: int


def sample(pid: int) -> Sample:
    """What process *pid* holds now (proc(5))."""
    fields = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":" in line
    )
    return Sample(
        int(fields["VmRSS"].split()[0]) / 1024,
        int(fields["Threads"]),
        len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - gone while listed, so no stat
    )


def drift(samples: list[Sample]) -> dict[str, float]:
    """Medians of the second and the last quarter, and memory's growth in percent."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    before, after = (statistics.median(s.rss_mb for s in part) for part in (early, late))
    return {
        "rss_mb_early": round(before, 1),
        "rss_mb_late": round(after, 1),
        "rss_drift_percent": round(100 * (after - before) / before, 2),
        "threads_early": statistics.median(s.threads for s in early),
        "threads_late": statistics.median(s.threads for s in late),
        "descriptors_early": statistics.median(s.descriptors for s in early),
        "descriptors_late": statistics.median(s.descriptors for s in late),
    }


def device(
    path: str, broker: Broker, rate: float, stop: Synchronized[int], made: Synchronized[int]
) -> None:
    """The device's process: *rate* events a second until *stop*, then drained."""
    clock = SystemClock()
    with (
        Journal(Path(path), KEY) as journal,
        syncing(DEVICE, broker, lambda: Journal(Path(path), KEY)),
    ):
        begun = time.monotonic()
        next_upkeep = begun + UPKEEP_SECONDS
        while not stop.value:
            while made.value < (time.monotonic() - begun) * rate:
                journal.append(boarding(made.value))
                made.value += 1
            if time.monotonic() >= next_upkeep:
                next_upkeep += UPKEEP_SECONDS
                journal.correct(clock.now())
                journal.prune(clock.now())
            time.sleep(0.02)
        until = time.monotonic() + 120
        while journal.pending(journal.epoch, 0, 1) and time.monotonic() < until:
            time.sleep(0.2)


def run(root: Path, minutes: float, rate: float, every_seconds: float) -> dict[str, object]:
    """Soak for *minutes* with a fault *every_seconds*; figures, events counted."""
    database = str(root / "city.db")
    context = multiprocessing.get_context("spawn")
    stop, made = context.Value("i", 0), context.Value("i", 0)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(root / "broker"))
        worker = stack.enter_context(city(broker, database))
        quiet = _Addressed(broker)
        process = context.Process(
            target=device, args=(str(root / "journal.db"), quiet, rate, stop, made)
        )
        process.start()
        assert process.pid is not None
        pids = {"device": process.pid, "city": worker.pid}
        samples: dict[str, list[Sample]] = {name: [] for name in pids}
        faults = 0
        kinds: list[Callable[[], None]] = [
            lambda: _restart(broker),
            lambda: _stopped(broker.pid),
            lambda: _stopped(worker.pid),
            lambda: _ask(database, made.value),
        ]
        begun = time.monotonic()
        next_fault = begun + every_seconds
        while (now := time.monotonic()) < begun + minutes * 60:
            if now >= next_fault:
                kinds[faults % len(kinds)]()
                faults += 1
                next_fault += every_seconds
            for name, pid in pids.items():
                samples[name].append(sample(pid))
            if sys.stderr.isatty():
                click.echo(f"\r{(now - begun) / 60:6.1f} min", nl=False, err=True)
            time.sleep(SAMPLE_SECONDS)
        stop.value = 1
        process.join(150)
        alive = process.is_alive()
        peaks = {name: peak_mb(worker.pid) for name in ("city",)}
    store = Store(database, create=False)
    try:
        there = store.event_count()
    finally:
        store.close()
    return {
        "minutes": minutes,
        "faults": faults,
        "events": made.value,
        "committed": there,
        "ended": not alive,
        "city_peak_mb": peaks["city"],
        **{name: drift(found) for name, found in samples.items()},
        "load": round(os.getloadavg()[0], 1),
    }


class _Addressed(Broker):
    """Where a broker is, for another process."""

    def __init__(self, broker: Broker) -> None:
        self.port = broker.port
        self.authority = broker.authority


def _restart(broker: Broker) -> None:
    broker.stop(kill=True)
    time.sleep(SILENT_SECONDS / 4)
    broker.start()


def _stopped(pid: int) -> None:
    """It hangs for a while and then goes on as if nothing had been."""
    os.kill(pid, signal.SIGSTOP)
    time.sleep(SILENT_SECONDS)
    os.kill(pid, signal.SIGCONT)


def _ask(database: str, made: int) -> None:
    store = Store(database, create=False)
    try:
        (row,) = store.devices()
        first = max(1, made - 500)
        wanted = replay_arguments(Replay(row.epoch, first, first + 400))
        store.order(DEVICE, "replay", wanted, time.time_ns() // 1_000_000)
    finally:
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=240.0)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--fault-seconds", type=float, default=60.0, help="a fault so often")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaopass-soak-") as name:
        found = run(Path(name), given.minutes, given.rate, given.fault_seconds)
    click.echo(json.dumps(found))
    sys.exit(0 if found["ended"] and found["events"] == found["committed"] else 1)


if __name__ == "__main__":
    main()
