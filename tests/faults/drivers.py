"""Who makes the faults of a round: one thread a device, one each for broker, network and city.

Every choice comes from a generator seeded with the round's seed and the driver's name, so a seed
repeats a round's choices; how the threads interleave is the machine's.
"""

from __future__ import annotations

import math
import shutil
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

from agent.cityos.events.store import Store
from agent.cityos.usecases import upkeep
from tests.cityos.database import database_of
from tests.faults.broker import QUOTA, FaultyBroker
from tests.faults.city import POINTS
from tests.faults.device import CLOCKS
from tests.faults.disks.disk import HOW, Disk
from tests.faults.ledger import Ledger
from tests.faults.network import Proxy
from tests.faults.processes import Life, Processes

PAGE_BYTES = 4096
KILLED = -9
KINDS = (
    *("sigkill", "power_cut", "disk_full", "damaged_page"),
    *(f"clock_{how}" for how in CLOCKS),
    *("broker_kill", "broker_wiped", "broker_quota", "broker_slow"),
    *("net_delay", "net_stall", "net_cut", "net_half_close"),
    *("city_kill", *POINTS, "city_restored"),
)
FOREVER_DAYS = 36_500.0


def events_in(database: Path) -> int:
    with closing(sqlite3.connect(database)) as db:
        return int(db.execute("SELECT count(*) FROM event").fetchone()[0])


class Driver(threading.Thread):
    """A thread that makes faults until ``stop``; a defect of its own is a problem of the round."""

    def __init__(self, name: str, seed: int, kinds: frozenset[str], haste: float = 1.0) -> None:
        super().__init__(name=name, daemon=True)
        self._haste = haste
        self.chance = Random(f"{seed}/{name}")
        self.kinds = kinds
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.turn()
        except BaseException as error:  # noqa: BLE001 - pytest.fail is one; all are shown
            self.problems.append(f"{self.name}: {type(error).__name__}: {error}")

    def turn(self) -> None:
        """One fault, or a calm while."""
        raise NotImplementedError

    def so_far(self) -> Counter[str]:
        """What was done until now, by kind."""
        return self.done.copy()

    def among(self, *kinds: str) -> list[str]:
        return [kind for kind in kinds if kind in self.kinds]

    def spread(self, least: float, most: float) -> float:
        """Evenly between the orders of magnitude, so that early moments are met as often."""
        return math.exp(self.chance.uniform(math.log(least), math.log(most)))

    def calm(self, least: float, most: float) -> bool:
        """Wait between two faults; whether the round is over."""
        return self.stopping.wait(self.spread(least, most) / self._haste)


class DeviceDriver(Driver):
    """Lives of one device on one disk, each ended by a SIGKILL or a power cut."""

    def __init__(
        self,
        name: str,
        seed: int,
        kinds: frozenset[str],
        *,
        folder: Path,
        processes: Processes,
        port: int,
        weak: bool,
        keep_days: float,
    ) -> None:
        super().__init__(name, seed, kinds)
        self._folder = folder
        self._root = folder / "disk"
        self._root.mkdir(parents=True)
        self._boot = folder / "boot"
        self._new_boot()
        self._disk = Disk()
        self._processes = processes
        self._port = port
        self._weak = weak
        self._keep_days = keep_days
        self._lives = 0
        self._torn = False
        self.ledger = Ledger()
        self.damaged = False

    def turn(self) -> None:
        ends = self.among("sigkill", "power_cut")
        end = self.chance.choice(ends) if ends else ""
        # Half of the lives end at an exact change of the disk, half at a moment in time.
        by_count = end and self.chance.random() < 0.5
        clock = self.chance.choice(["right", *self._clocks()])
        full = "disk_full" in self.kinds and self.chance.random() < 0.1
        life = self._start(
            die_after=round(self.spread(1, 3000)) if by_count else -1,
            clock=clock,
            full_at=self.chance.uniform(0.02, 0.3) if full else None,
        )
        most = 2.0 if by_count or full else self.spread(0.03, 1.2)
        if not end:
            self.stopping.wait()
        elif life.wait(most) is None:
            life.kill()
        if self._finish(life, end or "sigkill") and end:
            self.done[end] += 1
            if "damaged_page" in self.kinds and self.chance.random() < 0.05:
                self._damage()

    def so_far(self) -> Counter[str]:
        """And how many events are in the journal ("events")."""
        return self.done + Counter(events=len(self.ledger.returned))

    def _clocks(self) -> list[str]:
        return [how for how in CLOCKS if f"clock_{how}" in self.kinds]

    def _start(self, **spec: object) -> Life:
        self._lives += 1
        return self._processes.start(
            "device",
            self._folder / "log",
            name=self.name,
            root=str(self._root),
            trace=str(self._folder / "trace"),
            ledger=str(self._folder / f"ledger-{self._lives}"),
            boot=str(self._boot),
            port=self._port,
            seed=self.chance.getrandbits(64),
            weak=self._weak,
            keep_days=self._keep_days,
            **spec,
        )

    def _finish(self, life: Life, end: str) -> bool:
        """Take over what the life left, and cut the power if that is its end; False if amiss."""
        if life.status is None:
            life.kill()
        status = life.wait(20.0)
        trace = self._folder / "trace"
        self._disk.replay(trace)
        trace.unlink(missing_ok=True)
        written = self._folder / f"ledger-{self._lives}"
        self.ledger.read(written)
        written.unlink(missing_ok=True)
        if end == "power_cut":
            self._disk.cut(self._root, self.chance, self.chance.choice(HOW))
            self._new_boot()
        else:
            self._disk.reconcile(self._root)
        if status not in (0, KILLED):
            log = (self._folder / "log").read_text(errors="replace").strip().splitlines()
            self.problems.append(f"{self.name} ended with {status}: {' | '.join(log[-4:])}")
            self.stopping.set()
        return status in (0, KILLED)

    def _damage(self) -> None:
        path = self._root / "journal.db"
        pages = path.stat().st_size // PAGE_BYTES if path.exists() else 0
        if not pages:
            return
        self.damaged = True
        junk = self.chance.choice([bytes(PAGE_BYTES), self.chance.randbytes(PAGE_BYTES)])
        offset = self.chance.randrange(pages) * PAGE_BYTES
        self._disk.damage(self._root, "journal.db", offset, junk)

    def _new_boot(self) -> None:
        self._boot.write_text(str(uuid.UUID(int=self.chance.getrandbits(128))))

    def drain(self, seconds: float, whole: Callable[[DeviceDriver], bool] | None) -> None:
        """A last calm life that sends what is left, and what the city asks for until *whole*."""
        enough = self._folder / "enough"
        until_file = str(enough) if whole else ""
        life = self._start(drain_seconds=seconds, until_file=until_file)
        until = time.monotonic() + seconds
        while whole and life.status is None and time.monotonic() < until and not whole(self):
            time.sleep(0.2)
        enough.touch()
        if life.wait(seconds + 15.0) is None:
            self.problems.append(f"{self.name} does not come to its end")
        self._finish(life, "sigkill")


class BrokerDriver(Driver):
    """Faults of the broker, and calm between them."""

    def __init__(
        self, seed: int, kinds: frozenset[str], haste: float, broker: FaultyBroker
    ) -> None:
        super().__init__("broker", seed, kinds, haste)
        self._broker = broker

    def turn(self) -> None:
        kinds = self.among("broker_kill", "broker_wiped", "broker_quota", "broker_slow")
        if self.calm(0.4, 3.0) or not kinds:
            return
        kind = self.chance.choice(kinds)
        if kind == "broker_kill":
            self._broker.kill()
            self.stopping.wait(self.spread(0.01, 0.5))
            self._broker.restart()
        elif kind == "broker_wiped":
            self._broker.wipe()
        elif kind == "broker_quota":
            self._broker.restart(*self.chance.choice(QUOTA))
            self.stopping.wait(self.spread(0.2, 1.5))
            self._broker.restart()
        else:
            self._broker.pause(True)
            try:
                self.stopping.wait(self.spread(0.1, 1.5))
            finally:
                self._broker.pause(False)
        self.done[kind] += 1


class NetworkDriver(Driver):
    """Faults of the ways to the broker."""

    def __init__(
        self, seed: int, kinds: frozenset[str], haste: float, proxies: list[Proxy]
    ) -> None:
        super().__init__("network", seed, kinds, haste)
        self._proxies = proxies

    def turn(self) -> None:
        kinds = self.among("net_delay", "net_stall", "net_cut", "net_half_close")
        if self.calm(0.2, 2.0) or not kinds:
            return
        kind, proxy = self.chance.choice(kinds), self.chance.choice(self._proxies)
        if kind == "net_cut":
            proxy.cut()
        elif kind == "net_half_close":
            proxy.half_close(self.chance)
        elif kind == "net_stall":
            proxy.stall(True)
            self.stopping.wait(self.spread(0.05, 1.0))
            proxy.stall(False)
        else:
            proxy.delay(self.spread(0.005, 0.2))
            self.stopping.wait(self.spread(0.1, 1.0))
            proxy.delay(0.0)
        self.done[kind] += 1


class CityDriver(Driver):
    """Lives of the city side, each ended at random or at one of POINTS.

    "city_restored" puts a copy of its database, made a few lives ago, in the database's place.
    """

    def __init__(
        self,
        seed: int,
        kinds: frozenset[str],
        haste: float,
        start: Callable[[str, int], Life],
        database: Path,
    ) -> None:
        super().__init__("city", seed, kinds, haste)
        self._start = start
        self._database = database
        self._copy = database.with_name("copy.db")
        self._undone = 0
        self.life = start("", 0)

    def so_far(self) -> Counter[str]:
        """And how many committed events a restored copy had not ("undone")."""
        return self.done + Counter(undone=self._undone)

    def turn(self) -> None:
        kinds = self.among("city_kill", *POINTS, "city_restored")
        if not kinds:
            self.stopping.wait()
            return
        kind = self.chance.choice(kinds)
        if kind == "city_restored" and not self._copy.exists():
            kind = "city_kill"
        point = kind if kind in POINTS else ""
        self.end()
        if kind == "city_restored":
            self._restore()
        self._back_up()
        self.life = self._start(point, round(self.spread(1, 15)) if point else 0)
        begun = time.monotonic()
        most = (4.0 if point else self.spread(0.3, 3.0)) / self._haste
        while self.life.status is None and time.monotonic() - begun < most:
            if self.stopping.wait(0.02):
                return
        self._check()
        # At its point it has killed itself; where nothing came to commit, the time is up.
        self.done["city_kill" if point and self.life.status is None else kind] += 1

    def _back_up(self) -> None:
        """Now and then, with the command's own means; an older copy stays where it is."""
        if "city_restored" not in self.kinds or not self._database.exists():
            return
        if self._copy.exists() and self.chance.random() < 0.6:
            return
        store = Store(str(self._database))
        try:
            self._copy.unlink(missing_ok=True)
            upkeep.backup(database_of(store), str(self._copy))
        finally:
            store.close()

    def _restore(self) -> None:
        self._undone += events_in(self._database) - events_in(self._copy)
        for end in ("-wal", "-shm"):
            Path(f"{self._database}{end}").unlink(missing_ok=True)
        shutil.copyfile(self._copy, self._database)

    def restart(self) -> None:
        """A life without faults."""
        self.end()
        self.life = self._start("", 0)

    def end(self) -> None:
        """Kill the present life."""
        self._check()
        self.life.kill()
        self.life.wait(10.0)

    def _check(self) -> None:
        if self.life.status not in (None, KILLED):
            self.problems.append(f"the city side ended with {self.life.status}")
