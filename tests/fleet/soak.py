"""Hours of events with a fault every minute: do memory, threads and descriptors stay flat?

One real device (journal and sync in a process of its own) and two city workers that share its
events, on a real Mosquitto over TLS. Faults in turn: the broker killed, a city worker killed, the
network cut, the broker or the city side hanging for some seconds, a replay asked for. The device
and the other worker live through all of it and are measured. The drift
compares the median of the last quarter with that of the second: the first is warm-up.
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
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import click

from agent.bench.process import memory_mb, status
from agent.cityos.events.store import Store
from agent.cityos.usecases import steering
from agent.device.clock import SystemClock
from agent.journal import Journal
from agent.lab.broker import Address, LabBroker
from agent.lab.sync import boarding, city, syncing
from agent.protocol.commands import Replay, replay_arguments
from tests.cityos.database import database_of
from tests.faults.network import Proxy
from tests.fleet.verdict import compare

KEY = bytes(range(32))
DEVICE = "soak"
SAMPLE_SECONDS = 5.0
SILENT_SECONDS = 8.0
UPKEEP_SECONDS = 60.0
DRAIN_SECONDS = 120.0
ROWS = 60  # of the table over time
FLAT_PERCENT = 5.0
_SHARED = ("--share", "soak")


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one moment."""

    rss_mb: float
    threads: int
    descriptors: int


def sample(pid: int) -> Sample:
    """What process *pid* holds now (proc(5))."""
    fields = status(pid)
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


def is_flat(found: dict[str, float]) -> bool:
    """Whether a ``drift`` shows no growth but for memory's noise."""
    return (
        found["rss_drift_percent"] <= FLAT_PERCENT
        and found["threads_late"] <= found["threads_early"]
        and found["descriptors_late"] <= found["descriptors_early"]
    )


def device(
    path: str,
    broker: Address,
    rate: float,
    stop: Synchronized[int],
    made: Synchronized[int],
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
        until = time.monotonic() + DRAIN_SECONDS
        while journal.pending(journal.epoch, 0, 1):
            if time.monotonic() > until:
                sys.exit("events were not acknowledged in time")
            time.sleep(0.2)


class Town:
    """The parts of a soak, and what befalls them.

    Two processes live through all of it: the device's, and one of the two city workers.
    """

    def __init__(self, root: Path, rate: float) -> None:
        self.database = str(root / "city.db")
        context = multiprocessing.get_context("spawn")
        self._stop, self._made = context.Value("i", 0), context.Value("i", 0)
        self._undo = ExitStack()
        with ExitStack() as undo:
            self.broker = undo.enter_context(LabBroker(root / "broker"))
            self.worker = undo.enter_context(city(self.broker.address, self.database, *_SHARED))
            self._other = ExitStack()
            undo.callback(self._end_other)
            self._start_other()
            self._way = Proxy(self.broker.port)
            undo.callback(self._way.close)
            address = Address(self._way.port, self.broker.authority)
            self._device = context.Process(
                target=device,
                args=(str(root / "journal.db"), address, rate, self._stop, self._made),
            )
            self._device.start()
            undo.callback(self._device.kill)
            self._undo = undo.pop_all()
        self.faults: dict[str, Callable[[], None]] = {
            "broker_kill": self._restart_broker,
            "city_kill": self._kill_other,
            "net_cut": self._way.cut,
            "broker_hangs": lambda: _hang(self.broker.pid),
            "city_hangs": lambda: _hang(self.worker.pid),
            "replay_asked": self._ask,
        }

    @property
    def made(self) -> int:
        """Events appended so far."""
        return int(self._made.value)

    @property
    def pids(self) -> dict[str, int]:
        assert self._device.pid is not None
        return {"device": self._device.pid, "city": self.worker.pid}

    def finish(self) -> bool:
        """No more events; whether the device ended by itself, everything being acknowledged."""
        self._stop.value = 1
        self._device.join(DRAIN_SECONDS + 30)
        return self._device.exitcode == 0

    def close(self) -> None:
        self._undo.close()

    def _start_other(self) -> None:
        self._killed = self._other.enter_context(city(self.broker.address, self.database, *_SHARED))

    def _end_other(self) -> None:
        self._other.close()

    def _kill_other(self) -> None:
        self._killed.kill()
        self._end_other()
        self._start_other()

    def _restart_broker(self) -> None:
        self.broker.stop(kill=True)
        time.sleep(SILENT_SECONDS / 4)
        self.broker.start()

    def _ask(self) -> None:
        """A person wants the newest events once more."""
        store = Store(self.database, create=False)
        try:
            (row,) = store.devices()
            first = max(1, self.made - 500)
            wanted = replay_arguments(Replay(row.epoch, first, first + 400))
            steering.send(database_of(store), DEVICE, "replay", wanted, time.time_ns() // 1_000_000)
        finally:
            store.close()


def run(root: Path, seconds: float, rate: float, every_seconds: float) -> dict[str, object]:
    """Soak for *seconds* with a fault *every_seconds*; figures over time, and the verdict."""
    town = Town(root, rate)
    samples: dict[str, list[Sample]] = {name: [] for name in town.pids}
    series: list[dict[str, object]] = []
    faults: Counter[str] = Counter()
    turn = cycle(town.faults)
    try:
        begun = time.monotonic()
        next_fault, next_row = begun + every_seconds, begun
        while (now := time.monotonic()) < begun + seconds:
            fault = ""
            if now >= next_fault:
                fault = next(turn)
                town.faults[fault]()
                faults[fault] += 1
                next_fault += every_seconds
            for name, pid in town.pids.items():
                samples[name].append(sample(pid))
            if now >= next_row:
                next_row += seconds / ROWS
                series.append(_row((now - begun) / 60, town.made, samples))
            time.sleep(min(SAMPLE_SECONDS, every_seconds))
        ended = town.finish()
        city_peak_mb = memory_mb(town.worker.pid)[1]
        made = town.made
    finally:
        town.close()
    appended = {DEVICE: Counter(boarding(number).person for number in range(made))}
    lost, duplicated = compare(town.database, appended)
    drifts = {name: drift(found) for name, found in samples.items()}
    return {
        "minutes": round(seconds / 60, 1),
        "faults": faults.total(),
        "by_kind": dict(faults),
        "events": made,
        "lost": lost,
        "duplicated": duplicated,
        "drained": ended,
        "flat": all(is_flat(one) for one in drifts.values()),
        "city_peak_mb": city_peak_mb,
        **drifts,
        "series": series,
        "load": round(os.getloadavg()[0], 1),
    }


def _row(minutes: float, events: int, samples: dict[str, list[Sample]]) -> dict[str, object]:
    """One moment of both sides, shown to whoever waits."""
    if minutes < 0.01:
        click.echo(f"{'minutes':>8}{'events':>10}  each: MB, threads, descriptors", err=True)
    newest = {name: asdict(found[-1]) for name, found in samples.items()}
    shown = "".join(
        f"   {name} {found[-1].rss_mb:6.1f} {found[-1].threads:3} {found[-1].descriptors:4}"
        for name, found in samples.items()
    )
    click.echo(f"{minutes:8.1f}{events:10,}{shown}", err=True)
    return {"minutes": round(minutes, 1), "events": events, **newest}


def _hang(pid: int) -> None:
    """It stops for a while and then goes on as if nothing had been."""
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(SILENT_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second")
    parser.add_argument("--fault-seconds", type=float, default=60.0, help="a fault so often")
    parser.add_argument(
        "--compress",
        type=float,
        default=1.0,
        metavar="N",
        help="as many events and faults in an N-th of the time: --compress 3 makes 4 hours 80 min",
    )
    given = parser.parse_args()
    seconds = given.hours * 3600 / given.compress
    with tempfile.TemporaryDirectory(prefix="kaopass-soak-") as name:
        found = run(
            Path(name), seconds, given.rate * given.compress, given.fault_seconds / given.compress
        )
    click.echo(json.dumps(found))
    good = found["drained"] and found["flat"] and not found["lost"] and not found["duplicated"]
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
