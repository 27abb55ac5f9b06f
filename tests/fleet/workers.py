"""City workers that share the work on one PostgreSQL, killed in turns while devices send.

``scripts/workers`` runs the long version: throughput with 1, 2 and 3 workers, then one of three
killed every five seconds under load, and at the end every event of every device counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from agent.bench.broker import Broker
from agent.bench.sync import boarding, fill, syncing
from agent.cityos.store import Store
from agent.journal import Journal
from agent.sync.uplink import UplinkLimits
from tests.postgres import Postgres

KEY = bytes(range(32))
SHARE = "town"
# What a killed worker had taken is sent again after this long.
LIMITS = UplinkLimits(batch_seconds=0.05, ack_timeout_seconds=2.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run with kills came to; ``lost`` and ``duplicated`` count events."""

    events: int
    kills: int
    seconds: float
    lost: int
    duplicated: int


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


def drain(
    folder: Path, broker: Broker, devices: int, during: Callable[[], None], seconds: float
) -> list[str]:
    """Send what the journals ``0.db``, ``1.db`` ... hold; their epochs, when all is acked."""
    epochs = []
    with ExitStack() as stack:
        journals = []
        for number in range(devices):
            path = folder / f"{number}.db"
            journals.append(stack.enter_context(Journal(path, KEY)))
            epochs.append(journals[-1].epoch)

            def opened(path: Path = path) -> Journal:
                return Journal(path, KEY)

            stack.enter_context(syncing(f"bus-{number}", broker, opened, LIMITS))
        until = time.monotonic() + seconds
        while any(journal.pending(journal.epoch, 0, 1) for journal in journals):
            assert time.monotonic() < until, "events were not acknowledged in time"
            during()
            time.sleep(0.05)
    return epochs


def killed_in_turns(
    folder: Path,
    broker: Broker,
    database: str,
    *,
    devices: int,
    events: int,
    every_seconds: float,
    seconds: float,
) -> Outcome:
    """Three workers, one killed *every_seconds* as long as *devices* drain *events* each."""
    for number in range(devices):
        fill(folder / f"{number}.db", KEY, events, lambda *_: None)
    begun = time.monotonic()
    with workers(broker, database, 3) as three:
        stop = threading.Event()
        kills: list[int] = []

        def killer() -> None:
            while not stop.wait(every_seconds):
                three.kill_one(len(kills))
                kills.append(1)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            drain(folder, broker, devices, lambda: None, seconds)
        finally:
            stop.set()
            thread.join()
    lost, duplicated = count(database, devices, events)
    return Outcome(
        devices * events, len(kills), round(time.monotonic() - begun, 1), lost, duplicated
    )


def count(database: str, devices: int, events: int) -> tuple[int, int]:
    """(lost, twice): by what each event says, not by its number, which cannot be there twice."""
    store = Store(database, create=False)
    try:
        rows = store.events(limit=devices * events * 2)
    finally:
        store.close()
    persons = [boarding(number).person for number in range(events)]
    lost = twice = 0
    for number in range(devices):
        here = sorted(row["person"] for row in rows if row["device"] == f"bus-{number}")
        lost += len(set(persons) - set(here))
        twice += len(here) - len(set(here))
    return lost, twice


def throughput(root: Path, server: Postgres, devices: int, events: int) -> dict[str, float]:
    """Events a second, until acknowledged, with 1, 2 and 3 workers."""
    filled = root / "filled"
    filled.mkdir()
    for number in range(devices):
        fill(filled / f"{number}.db", KEY, events, lambda *_: None)
    rates = {}
    for many in (1, 2, 3):
        folder = root / f"with-{many}"
        shutil.copytree(filled, folder)
        with Broker(folder / "broker") as broker, workers(broker, server.database(), many):
            begun = time.monotonic()
            drain(folder, broker, devices, lambda: None, 600.0)
            rates[str(many)] = round(devices * events / (time.monotonic() - begun), 1)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/workers", description=__doc__)
    parser.add_argument("--devices", type=int, default=6)
    parser.add_argument("--events", type=int, default=5_000, help="of each device")
    parser.add_argument("--every-seconds", type=float, default=5.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kaopass-workers-") as name, Postgres() as server:
        root = Path(name)
        rates = throughput(root, server, given.devices, given.events)
        click.echo(f"workers -> events a second: {rates}", err=True)
        folder = root / "killed"
        folder.mkdir()
        with Broker(folder / "broker") as broker:
            outcome = killed_in_turns(
                folder,
                broker,
                server.database(),
                devices=given.devices,
                events=given.events * 4,
                every_seconds=given.every_seconds,
                seconds=900.0,
            )
    click.echo(
        json.dumps(
            {
                "throughput": rates,
                "kills": outcome.kills,
                "events": outcome.events,
                "lost": outcome.lost,
                "duplicated": outcome.duplicated,
                "load": os.getloadavg()[0],
            }
        )
    )
    sys.exit(1 if outcome.lost or outcome.duplicated else 0)


if __name__ == "__main__":
    main()
