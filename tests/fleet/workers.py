"""City workers that share the work on one PostgreSQL, killed in turns while devices send.

``scripts/workers`` runs the long version: throughput with 1, 2 and 3 workers and what each part
of it costs in processor time, then one of three killed every five seconds under load, and at the
end every event of every device counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from agent.bench.process import cpu_seconds, tree_cpu_seconds
from agent.journal import Journal
from agent.lab.broker import Address, LabBroker
from agent.lab.disk import quick_folder
from agent.lab.sync import boarding, fill
from tests.fleet.senders import KEY, Senders
from tests.fleet.verdict import compare
from tests.postgres import Postgres

SHARE = "town"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run with kills came to; ``lost`` and ``duplicated`` count events."""

    events: int
    kills: int
    seconds: float
    per_second: float
    lost: int
    duplicated: int


@dataclass(frozen=True, slots=True)
class Throughput:
    """Until acknowledged; microseconds of processor time an event took in each part."""

    per_second: float
    cpu_us_per_event: dict[str, float]


class Workers:
    """*count* processes of ``kaopass city serve`` with one share name."""

    def __init__(self, broker: Address, database: str, count: int) -> None:
        command = ["city", "serve", *broker.options, "--share", SHARE]
        self._command = [sys.executable, "-m", "agent", *command]
        self._environment = {**os.environ, "KAOPASS_CITY_DATABASE": database}
        self._running = [self._start() for _ in range(count)]
        for process in self._running:
            self._await(process)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    def kill_one(self, number: int) -> None:
        """SIGKILL a worker and start another in its place."""
        at = number % len(self._running)
        self._running[at].send_signal(signal.SIGKILL)
        self._running[at].communicate()
        self._running[at] = self._start()
        self._await(self._running[at])

    def stop(self) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.communicate(timeout=20)

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _await(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()


@contextmanager
def workers(broker: Address, database: str, count: int) -> Iterator[Workers]:
    started = Workers(broker, database, count)
    try:
        yield started
    finally:
        started.stop()


def killed_in_turns(
    folder: Path,
    broker: LabBroker,
    database: str,
    *,
    devices: int,
    events: int,
    rate: float,
    every_seconds: float,
    seconds: float,
) -> Outcome:
    """Three workers, for *seconds* one killed *every_seconds*, then everything is drained.

    Each device has a backlog of *events*; all together append *rate* a second beside it.
    """
    for number in range(devices):
        fill(folder / f"{number}.db", KEY, events, lambda *_: None)
    kills = 0
    with workers(broker.address, database, 3) as three:
        senders = Senders(folder, broker.address, devices, rate)
        senders.go()
        begun = time.monotonic()
        pause = threading.Event()
        # A worker takes a second or two to start: the next kill waits for it, not for the clock.
        while (due := begun + (kills + 1) * every_seconds) < begun + seconds:
            pause.wait(max(0.0, due - time.monotonic()))
            three.kill_one(kills)
            kills += 1
        pause.wait(max(0.0, begun + seconds - time.monotonic()))
        senders.finish()
        took = time.monotonic() - begun
    total, lost, twice = count(folder, database, devices)
    return Outcome(total, kills, round(took, 1), round(total / took, 1), lost, twice)


def count(folder: Path, database: str, devices: int) -> tuple[int, int, int]:
    """(appended, lost, twice)."""
    appended = {}
    for number in range(devices):
        with Journal(folder / f"{number}.db", KEY, read_only=True) as journal:
            last = journal.bounds(journal.epoch)[1]
        appended[f"bus-{number}"] = Counter(boarding(at).person for at in range(last))
    return sum(each.total() for each in appended.values()), *compare(database, appended)


def throughput(
    root: Path, server: Postgres, devices: int, events: int, many: int, *, tls: bool
) -> Throughput:
    """How fast *many* workers take the backlog of *events* of each device."""
    folder = root / f"with-{many}"
    shutil.copytree(root / "filled", folder)
    with (
        LabBroker(folder / "broker", tls=tls) as broker,
        workers(broker.address, server.database(), many) as running,
    ):
        senders = Senders(folder, broker.address, devices)
        begun = time.monotonic()
        spent = {
            "devices": -_children_seconds() - sum(cpu_seconds(pid) for pid in senders.pids),
            "broker": -cpu_seconds(broker.pid),
            "city": -sum(cpu_seconds(pid) for pid in running.pids),
            "postgresql": -tree_cpu_seconds(server.pid),
        }
        senders.go()
        senders.finish()
        seconds = time.monotonic() - begun
        spent["broker"] += cpu_seconds(broker.pid)
        spent["city"] += sum(cpu_seconds(pid) for pid in running.pids)
        spent["postgresql"] += tree_cpu_seconds(server.pid)
        spent["devices"] += _children_seconds()
    shutil.rmtree(folder)
    total = devices * events
    return Throughput(
        round(total / seconds, 1), {name: round(s / total * 1e6, 1) for name, s in spent.items()}
    )


def middle(runs: Sequence[Throughput]) -> Throughput:
    """The median of each figure."""
    return Throughput(
        statistics.median(run.per_second for run in runs),
        {
            name: statistics.median(run.cpu_us_per_event[name] for run in runs)
            for name in runs[0].cpu_us_per_event
        },
    )


def _children_seconds() -> float:
    """Processor time of children that have ended, as the senders have when they are done."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/workers", description=__doc__)
    parser.add_argument("--devices", type=int, default=12)
    parser.add_argument("--events", type=int, default=5_000, help="backlog of each device")
    parser.add_argument("--turns", type=int, default=3, help="of 1, 2 and 3 workers; the medians")
    parser.add_argument("--rate", type=float, default=600.0, help="events a second beside it")
    parser.add_argument("--seconds", type=float, default=75.0, help="of kills")
    parser.add_argument("--every-seconds", type=float, default=5.0, help="between two kills")
    parser.add_argument("--no-tls", action="store_true", help="leave connections unencrypted")
    given = parser.parse_args()
    # In memory: the devices' own disks are not what is measured here.
    needed = 6 * given.devices * given.events * 512
    with quick_folder(needed, Path.cwd()) as root, Postgres() as server:
        (root / "filled").mkdir()
        for number in range(given.devices):
            fill(root / "filled" / f"{number}.db", KEY, given.events, lambda *_: None)
        runs: dict[int, list[Throughput]] = {1: [], 2: [], 3: []}
        # In turns, so that each number meets the same moods of the machine.
        for many in [*runs] * given.turns:
            runs[many].append(
                throughput(root, server, given.devices, given.events, many, tls=not given.no_tls)
            )
        found = {many: middle(each) for many, each in runs.items()}
        for many, one in found.items():
            spent = ", ".join(f"{n} {us:.0f} µs" for n, us in one.cpu_us_per_event.items())
            click.echo(
                f"{many} worker{'s' * (many > 1)}: {one.per_second:,.0f} events a second; "
                f"processor time of one: {spent}",
                err=True,
            )
        folder = root / "killed"
        folder.mkdir()
        with LabBroker(folder / "broker", tls=not given.no_tls) as broker:
            outcome = killed_in_turns(
                folder,
                broker,
                server.database(),
                devices=given.devices,
                events=given.events,
                rate=given.rate,
                every_seconds=given.every_seconds,
                seconds=given.seconds,
            )
    click.echo(
        json.dumps(
            {
                "throughput": {str(many): asdict(one) for many, one in found.items()},
                "killed": asdict(outcome),
                "lost": outcome.lost,
                "duplicated": outcome.duplicated,
                "load": round(os.getloadavg()[0], 1),
            }
        )
    )
    sys.exit(1 if outcome.lost or outcome.duplicated else 0)


if __name__ == "__main__":
    main()
