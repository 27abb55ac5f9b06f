"""Faults of what lies around devices: broker, network, and the city side."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from agent.cityos.events.store import Store
from agent.cityos.usecases import upkeep
from tests.cityos.database import database_of
from tests.faults.broker import QUOTA, FaultyBroker
from tests.faults.city import POINTS
from tests.faults.drivers.driver import KILLED, Driver
from tests.faults.network import Proxy
from tests.faults.processes import Life


def events_in(database: Path) -> int:
    with closing(sqlite3.connect(database)) as db:
        return int(db.execute("SELECT count(*) FROM event").fetchone()[0])


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
