"""One life of a device without its camera: journal, sync and link as the agent has them.

It appends events as fast as it is told, keeps the ledger, and lives until it is killed; the last
life of a round (*drain_seconds*) only sends what is left, and ends by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from agent.base.errors import JournalError
from agent.base.events import Passage, PassageEvent, Place
from agent.base.ports import Link
from agent.base.retry import Backoff
from agent.base.values import Message
from agent.device.clock import KernelClock, SystemClock
from agent.hw.net.mqtt import MqttLink
from agent.journal import Journal
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.link.uplink.uplink import UplinkLimits
from agent.protocol.topics import down_topics
from tests.faults.disks.trace import Tracer
from tests.faults.ledger import LedgerWriter

KEY = bytes(range(32))
CLOCKS = ("1970", "ahead", "back", "found")
_YEAR_MS = 365 * 86_400_000


class WeakJournal(Journal):
    """The weakness a campaign must find: what ``append`` returned may not be on the disk yet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._db.execute("PRAGMA synchronous = NORMAL")


class FaultyClock:
    """A ``SystemClock`` on a wall clock that is wrong in one of the ways of CLOCKS.

    "back" steps back an hour in mid-run, "found" is unknown until then and exact afterwards.
    """

    def __init__(self, boot_file: Path, how: str, turn_at: float) -> None:
        self._how = how
        self._turn_at = time.monotonic() + turn_at
        self._clock = SystemClock(
            boot_id_file=boot_file, kernel=self._kernel, wall_ns=lambda: self._wall_ms() * 1_000_000
        )
        self.now = self._clock.now

    @property
    def turned(self) -> bool:
        return time.monotonic() >= self._turn_at

    def _wall_ms(self) -> int:
        true_ms = time.time_ns() // 1_000_000
        if self._how == "1970" or (self._how == "found" and not self.turned):
            return time.monotonic_ns() // 1_000_000
        if self._how == "ahead":
            return true_ms + 10 * _YEAR_MS
        if self._how == "back" and self.turned:
            return true_ms - 3_600_000
        return true_ms

    def _kernel(self) -> KernelClock:
        return KernelClock(self._how != "ahead", 20)


def run(
    *,
    name: str,
    root: str,
    trace: str,
    ledger: str,
    boot: str,
    port: int,
    seed: int,
    die_after: int = -1,
    clock: str = "right",
    full_at: float | None = None,
    weak: bool = False,
    keep_days: float = 0.0,
    drain_seconds: float = 0.0,
    until_file: str = "",
) -> None:
    """A life of device *name* on the disk *root*; *boot* is the file with this boot's id.

    A draining one goes on answering the city until *until_file* is there, if one is named.
    """
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s: %(message)s")
    chance = Random(seed)
    tracer, lines = Tracer(), LedgerWriter(Path(ledger))
    tracer.begin(Path(root), Path(trace), die_after)
    path = Path(root) / "journal.db"
    kind = WeakJournal if weak else Journal
    wall = FaultyClock(Path(boot), clock, chance.uniform(0.05, 0.4))
    journal, report = kind.open_checked(path, KEY, now=wall.now(), keep_days=keep_days)
    if report.damage:
        lines.fault("damaged_page")
    sync = _sync(
        name, Path(root), port, chance, lambda: kind(path, KEY), _limits(chance, drain_seconds > 0)
    )
    sync.start()
    if drain_seconds:
        enough = Path(until_file) if until_file else None
        _drain(journal, sync, lines, drain_seconds, enough)
        sync.stop()
        return
    _append(journal, lines, wall, clock, tracer, full_at, chance, seed)


def _append(
    journal: Journal,
    lines: LedgerWriter,
    wall: FaultyClock,
    clock: str,
    tracer: Tracer,
    full_at: float | None,
    chance: Random,
    seed: int,
) -> None:
    begun = time.monotonic()
    pace = chance.choice([0.0, 0.002, 0.01, 0.05])
    burst = chance.randint(1, 40)
    corrected = False
    said: set[str] = set()
    number = 0
    while True:
        number += 1
        past = time.monotonic() - begun
        if full_at is not None:
            # Full for a while, then there is room again.
            tracer.room(4096 if full_at <= past < full_at + 0.15 else -1)
        event = PassageEvent(
            Passage.BOARDING,
            "bus",
            f"{seed:032x}{number:032x}",
            Place("bus", "パークバス　1号", "front", chance.choice([None, "高森三丁目"])),
            wall.now(),
        )
        lines.trying(event)
        try:
            lines.returned(journal.append(event))
        except JournalError:
            if full_at is None:
                raise
            lines.failed(event)
            said = _say(lines, said, "disk_full")
            time.sleep(0.01)
        if clock in ("1970", "ahead") or (clock != "right" and wall.turned):
            said = _say(lines, said, f"clock_{clock}")
        if full_at is None and number % 50 == 0:
            journal.prune(wall.now())
        if clock == "found" and full_at is None and wall.turned and not corrected:
            corrected = True
            journal.correct(wall.now())
        if number % burst == 0:
            time.sleep(pace * burst)


def _say(lines: LedgerWriter, said: set[str], kind: str) -> set[str]:
    if kind not in said:
        lines.fault(kind)
    return said | {kind}


def _limits(chance: Random, quick: bool) -> UplinkLimits:
    if quick:
        return UplinkLimits(batch_seconds=0.0, ack_timeout_seconds=2.0)
    return UplinkLimits(
        batch_events=chance.choice([1, 7, 100]),
        batch_seconds=chance.choice([0.0, 0.05]),
        ack_timeout_seconds=0.5,
    )


def _sync(
    name: str,
    root: Path,
    port: int,
    chance: Random,
    journal: Callable[[], Journal],
    limits: UplinkLimits,
) -> Supervisor:
    protocol: Any = chance.choice(["5", "3.1.1"])

    def link(will: Message) -> Link:
        return MqttLink(
            "127.0.0.1",
            port,
            client_id=name,
            protocol=protocol,
            keepalive_seconds=2,
            connect_seconds=1.0,
            subscriptions=down_topics(name),
            will=will,
        )

    state = SyncState(root / "sync.json")
    return Supervisor(
        name,
        "0.1.0",
        journal=journal,
        link=link,
        state=state,
        backoff=Backoff(state, min_seconds=0.02, max_seconds=0.1, draw=chance.random),
        limits=limits,
    )


def _drain(
    journal: Journal,
    sync: Supervisor,
    lines: LedgerWriter,
    seconds: float,
    until_file: Path | None,
) -> None:
    """Wait until the city has everything, and write down what the journal knows to be gone."""
    pause = threading.Event()
    until = time.monotonic() + seconds
    while until_file is not None and not until_file.exists() and time.monotonic() < until:
        pause.wait(0.05)
    while any(journal.pending(epoch, 0, 1) for epoch in journal.epochs()):
        if time.monotonic() > until:
            for epoch in journal.epochs():
                for stored in journal.pending(epoch, 0, 1_000_000):
                    lines.waiting(stored.event)
            waiting = f"{journal.stats().pending} events are still pending"
            raise TimeoutError(f"{waiting} after {seconds:g} s: {sync.status}")
        pause.wait(0.02)
    for gap in journal.gaps():
        if gap.reason == "damage":
            lines.gone(gap.epoch, gap.first, gap.last)
    for entry in journal.entries(states=("quarantined",)):
        if entry.code == "damage":
            lines.gone(entry.epoch, entry.seq, entry.seq)
