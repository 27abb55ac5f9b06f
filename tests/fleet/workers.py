"""City workers that share the work on one PostgreSQL, killed in turns while devices send.

``scripts/workers`` runs the long version: throughput with 1, 2 and 3 workers and what each part
of it costs in processor time, then one of three killed every five seconds under load, and at the
end every event of every device counted.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import click
from sqlalchemy import select

from agent.bench.broker import Broker
from agent.bench.disk import quick_folder
from agent.bench.process import cpu_seconds, tree_cpu_seconds
from agent.bench.sync import boarding, fill, syncing
from agent.cityos.database import open_engine
from agent.cityos.schema import EVENT
from agent.journal import Journal
from agent.sync.uplink import UplinkLimits
from tests.postgres import Postgres

KEY = bytes(range(32))
SHARE = "town"
SENDERS = 2  # processes the devices are divided among
GIVE_UP_SECONDS = 900.0
# What a killed worker had taken is sent again after this long.
LIMITS = UplinkLimits(batch_seconds=0.05, ack_timeout_seconds=2.0)


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

    def __init__(self, broker: Broker, database: str, count: int) -> None:
        command = ["city", "serve", "--broker", broker.address, "--share", SHARE]
        if broker.authority is not None:
            command += ["--ca", str(broker.authority)]
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
def workers(broker: Broker, database: str, count: int) -> Iterator[Workers]:
    started = Workers(broker, database, count)
    try:
        yield started
    finally:
        started.stop()


class Senders:
    """Devices ``bus-0``, ``bus-1`` ... with the journals ``0.db``, ``1.db`` ... of *folder*.

    They begin with ``go``, and send what is there and, at *rate* events a second all together,
    more until ``finish``.
    """

    def __init__(self, folder: Path, broker: Broker, devices: int, rate: float = 0.0) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Value("i", 0 if rate else 1)
        senders = min(SENDERS, devices)
        self._ready = context.Barrier(senders + 1, timeout=60)
        address = (broker.port, broker.authority)
        self._processes = [
            context.Process(
                target=_send,
                args=(
                    *(folder, *address, range(at, devices, senders), rate / devices),
                    *(self._ready, self._stop),
                ),
            )
            for at in range(senders)
        ]
        for process in self._processes:
            process.start()
        while self._ready.n_waiting < senders:
            assert all(process.is_alive() for process in self._processes)
            time.sleep(0.02)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes if process.pid]

    def go(self) -> None:
        self._ready.wait()

    def finish(self) -> None:
        """Have no more appended, and wait until all is acknowledged."""
        self._stop.value = 1
        for process in self._processes:
            process.join(GIVE_UP_SECONDS)
            assert process.exitcode == 0, "events were not acknowledged in time"


class _Addressed(Broker):
    """Where a broker is, for another process."""

    def __init__(self, port: int, authority: Path | None) -> None:
        self.port = port
        self.authority = authority


def _send(
    folder: Path,
    port: int,
    authority: Path | None,
    numbers: Sequence[int],
    rate: float,
    ready: Barrier,
    stop: Synchronized[int],
) -> None:
    """One process of senders; ends when everything is acknowledged."""
    ready.wait()
    with ExitStack() as stack:
        journals = []
        for number in numbers:
            path = folder / f"{number}.db"
            journals.append(stack.enter_context(Journal(path, KEY)))

            def opened(path: Path = path) -> Journal:
                return Journal(path, KEY)

            broker = _Addressed(port, authority)
            stack.enter_context(syncing(f"bus-{number}", broker, opened, LIMITS))
        begun = time.monotonic()
        there = [journal.bounds(journal.epoch)[1] for journal in journals]
        made = 0
        while not stop.value:
            while made < (time.monotonic() - begun) * rate and not stop.value:
                for journal, first in zip(journals, there, strict=True):
                    journal.append(boarding(first + made))
                made += 1
            time.sleep(0.01)
        while any(journal.pending(journal.epoch, 0, 1) for journal in journals):
            time.sleep(0.02)


def killed_in_turns(
    folder: Path,
    broker: Broker,
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
    with workers(broker, database, 3) as three:
        senders = Senders(folder, broker, devices, rate)
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
    """(appended, lost, twice): by what events say, not by their numbers, which are unique."""
    total = lost = twice = 0
    engine = open_engine(database, create=False)
    try:
        for number in range(devices):
            with Journal(folder / f"{number}.db", KEY, read_only=True) as journal:
                last = journal.bounds(journal.epoch)[1]
            with engine.connect() as db:
                of_bus = select(EVENT.c.person).where(EVENT.c.device == f"bus-{number}")
                here = Counter(db.execute(of_bus).scalars())
            total += last
            lost += len({boarding(at).person for at in range(last)} - here.keys())
            twice += here.total() - len(here)
    finally:
        engine.dispose()
    return total, lost, twice


def throughput(
    root: Path, server: Postgres, devices: int, events: int, many: int, *, tls: bool
) -> Throughput:
    """How fast *many* workers take the backlog of *events* of each device."""
    folder = root / f"with-{many}"
    shutil.copytree(root / "filled", folder)
    with (
        Broker(folder / "broker", tls=tls) as broker,
        workers(broker, server.database(), many) as running,
    ):
        senders = Senders(folder, broker, devices)
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


def _children_seconds() -> float:
    """Processor time of children that have ended, as the senders have when they are done."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/workers", description=__doc__)
    parser.add_argument("--devices", type=int, default=12)
    parser.add_argument("--events", type=int, default=5_000, help="backlog of each device")
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
        found = {}
        for many in (1, 2, 3):
            found[many] = throughput(
                root, server, given.devices, given.events, many, tls=not given.no_tls
            )
            spent = ", ".join(f"{n} {us:.0f} µs" for n, us in found[many].cpu_us_per_event.items())
            click.echo(
                f"{many} worker{'s' * (many > 1)}: {found[many].per_second:,.0f} events a second; "
                f"processor time of one: {spent}",
                err=True,
            )
        folder = root / "killed"
        folder.mkdir()
        with Broker(folder / "broker", tls=not given.no_tls) as broker:
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
