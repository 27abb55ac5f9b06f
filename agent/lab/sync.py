"""``kaopass bench sync``: a journal drained through a real broker to the city's commit and back.

A real journal, Mosquitto over TLS, and ``kaopass city serve`` as a process of its own, all on
loopback. First a backlog is sent as fast as it goes; then events come singly, and each is timed
from its own commit in the journal to its ack. Beside it stand bare inserts of the same rows into
SQLite, a batch a transaction, synced as the city's are: what the line could be if there were no
line.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agent.base.errors import CityError
from agent.base.events import PassageEvent, StoredEvent
from agent.base.retry import Backoff
from agent.base.values import Ack, Message
from agent.bench.process import cpu_seconds
from agent.cityos.events.rows import row_of
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.journal import Journal
from agent.lab.broker import Address, LabBroker
from agent.lab.disk import Progress
from agent.lab.journal import boarding as alike
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.link.uplink.uplink import UplinkLimits
from agent.protocol.messages import MAX_BATCH_EVENTS
from agent.protocol.topics import down_topics

GOAL_PER_SECOND = 2_000.0  # requirement H5
LIVE_EVENTS = 300
LIVE_PER_SECOND = 50.0
LIVE_BATCH_SECONDS = 0.1
STALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Drain:
    """How *events* went to the city's ``database`` and were acknowledged.

    ``cpu_us_per_event`` is the processor time, in microseconds, that "device", "broker" and "city"
    (without its database server) took for one; waiting is not in it.
    ``bytes_per_event`` counts what was published, compressed, without TLS and MQTT's few bytes.
    ``ack_p50_ms`` and ``ack_p99_ms`` are from an event's commit in the journal to its ack, for
    events that come singly; batches wait LIVE_BATCH_SECONDS for company in it.
    """

    database: str
    events: int
    seconds: float
    per_second: float
    cpu_us_per_event: dict[str, float]
    bytes_per_event: float
    ack_p50_ms: float
    ack_p99_ms: float


class _TimedJournal(Journal):
    """Notes when each ack was applied."""

    def __init__(self, path: Path, key: bytes, acks: list[tuple[float, Ack]]) -> None:
        super().__init__(path, key)
        self._acks = acks

    def confirm(self, ack: Ack) -> int:
        changed = super().confirm(ack)
        self._acks.append((time.perf_counter(), ack))
        return changed


class _CountedLink(MqttLink):
    """Counts the bytes of events that are sent."""

    sent_bytes = 0

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        if topic.endswith("/u/ev"):
            _CountedLink.sent_bytes += len(payload)
        super().publish(topic, payload, retain=retain)


def boarding(number: int) -> PassageEvent:
    """A boarding whose pseudonym compresses no better than a real one."""
    return replace(alike(number), person=hashlib.sha256(b"%d" % number).hexdigest())


def measure(folder: Path, database: str, backlog: Path, key: bytes, progress: Progress) -> Drain:
    """Drain a copy of the journal *backlog* to *database*. Raises KaopassError."""
    device = f"bench-{secrets.token_hex(6)}"
    path = folder / "journal.db"
    shutil.copyfile(backlog, path)
    acks: list[tuple[float, Ack]] = []
    _CountedLink.sent_bytes = 0
    with (
        LabBroker(folder / "broker") as broker,
        city(broker.address, database) as worker,
        Journal(path, key) as journal,
    ):
        events = journal.stats().pending
        pids = {"device": os.getpid(), "broker": broker.pid, "city": worker.pid}
        computed = {name: -cpu_seconds(pid) for name, pid in pids.items()}

        def opened() -> Journal:
            return _TimedJournal(path, key, acks)

        begun = time.perf_counter()
        with syncing(device, broker.address, opened) as sync:
            _wait(sync, events, lambda done: progress("draining", done / events))
        seconds = time.perf_counter() - begun
        for name, pid in pids.items():
            computed[name] += cpu_seconds(pid)
        sent_bytes = _CountedLink.sent_bytes
        limits = UplinkLimits(batch_seconds=LIVE_BATCH_SECONDS)
        acks.clear()
        with syncing(
            device, broker.address, lambda: _TimedJournal(path, key, acks), limits
        ) as sync:
            stored = _trickle(journal, sync, progress)
        latencies = _latencies(stored, acks)
    return Drain(
        database="sqlite" if "://" not in database else database.split(":", 1)[0],
        events=events,
        seconds=round(seconds, 2),
        per_second=round(events / seconds, 1),
        cpu_us_per_event={name: round(spent / events * 1e6, 1) for name, spent in computed.items()},
        bytes_per_event=round(sent_bytes / events, 1),
        ack_p50_ms=round(latencies[len(latencies) // 2], 1),
        ack_p99_ms=round(latencies[round((len(latencies) - 1) * 0.99)], 1),
    )


def bare_inserts(folder: Path, events: int, progress: Progress) -> float:
    """Rows a second that SQLite takes alone: as many columns, a batch a transaction, synced."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        width = len(_row(0))
        columns = ", ".join(f"c{number}" for number in range(width))
        db.execute(f"CREATE TABLE event ({columns}, PRIMARY KEY (c0, c1, c2))")
        begun = time.perf_counter()
        for first in range(0, events, MAX_BATCH_EVENTS):
            if first % 5_000 == 0:
                progress("bare SQLite", first / events)
            rows = [_row(n) for n in range(first, min(first + MAX_BATCH_EVENTS, events))]
            db.execute("BEGIN IMMEDIATE")
            marks = ", ".join("?" * width)
            db.executemany(f"INSERT INTO event VALUES ({marks})", rows)  # noqa: S608 - marks only
            db.execute("COMMIT")
        return events / (time.perf_counter() - begun)


def fill(path: Path, key: bytes, events: int, progress: Progress) -> None:
    """Append *events* to a new journal at *path*."""
    with Journal(path, key) as journal:
        for number in range(events):
            if number % 500 == 0:
                progress("filling", number / events)
            journal.append(boarding(number))


@contextmanager
def city(broker: Address, database: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """``kaopass city serve`` on *broker* and *database*, ready. Raises CityError."""
    command = [sys.executable, "-m", "agent", "city", "serve", *broker.options]
    process = subprocess.Popen(
        [*command, *options],
        # Not as an argument: an address may hold a password, and arguments are for all to see.
        env={**os.environ, "KAOPASS_CITY_DATABASE": database},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        ready = process.stdout.readline() if process.stdout else ""
        if not ready:
            raise CityError(f"the city side does not start: {' '.join(command)}")
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=10)


@contextmanager
def syncing(
    device: str,
    broker: Address,
    journal: Callable[[], Journal],
    limits: UplinkLimits = UplinkLimits(),  # noqa: B008 - frozen
) -> Iterator[Supervisor]:
    """The sync thread of *device*, as the agent runs it."""
    state = SyncState(None)

    def link(will: Message) -> MqttLink:
        return _CountedLink(
            "127.0.0.1",
            broker.port,
            client_id=device,
            tls=Tls(broker.authority, None, None) if broker.authority else None,
            subscriptions=down_topics(device),
            will=will,
        )

    sync = Supervisor(
        device,
        "bench",
        journal=journal,
        link=link,
        state=state,
        backoff=Backoff(state, min_seconds=0.1, max_seconds=1.0),
        limits=limits,
    )
    sync.start()
    try:
        yield sync
    finally:
        sync.stop(5.0)


def _wait(sync: Supervisor, events: int, done: Callable[[int], None]) -> None:
    """Until *events* are acknowledged. Raises CityError when nothing moves any more."""
    best, moved = -1, time.monotonic()
    while (acked := sync.status.acked) < events:
        if acked != best:
            best, moved = acked, time.monotonic()
            done(acked)
        elif time.monotonic() - moved > STALL_SECONDS:
            raise CityError(f"{acked} of {events} events acknowledged, then nothing more came")
        time.sleep(0.005)


def _trickle(journal: Journal, sync: Supervisor, progress: Progress) -> list[tuple[float, int]]:
    """(moment of its commit, number) of events that come one by one."""
    stored = []
    for number in range(LIVE_EVENTS):
        progress("one by one", number / LIVE_EVENTS)
        kept: StoredEvent = journal.append(boarding(number))
        stored.append((time.perf_counter(), kept.seq))
        time.sleep(1 / LIVE_PER_SECOND)
    _wait(sync, LIVE_EVENTS, lambda _: None)
    return stored


def _latencies(stored: list[tuple[float, int]], acks: list[tuple[float, Ack]]) -> list[float]:
    """Milliseconds from each commit to the first ack that covers it, in order of size."""
    found = []
    for begun, seq in stored:
        ended = next(
            at
            for at, ack in acks
            if ack.upto >= seq or any(first <= seq <= last for first, last in ack.have)
        )
        found.append((ended - begun) * 1000)
    return sorted(found)


def _row(number: int) -> tuple[str | int | None, ...]:
    event = boarding(number)
    row = row_of("bench", StoredEvent("00" * 16, number, event), event.moment.wall_ms)
    return tuple(row.values())
