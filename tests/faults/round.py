"""One round of a campaign: a town under faults, then calm, then the ledger against the city."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.broker import FaultyBroker
from tests.faults.drivers import (
    KINDS,
    BrokerDriver,
    CityDriver,
    DeviceDriver,
    Driver,
    NetworkDriver,
)
from tests.faults.ledger import at_city, judge
from tests.faults.network import Proxy
from tests.faults.processes import Life, Processes

WEAKNESSES = ("normal-sync", "ack-before-commit")
DEVICES = 4
DRAIN_SECONDS = 30.0
WEAK_DRAIN_SECONDS = 3.0  # what a weakness has lost never comes


@dataclass
class Outcome:
    """What a round did and found. ``destroyed`` events lay on pages that were destroyed."""

    seed: int
    by_kind: Counter[str] = field(default_factory=Counter)
    events: int = 0
    destroyed: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.lost or self.duplicated or self.problems)


def run_round(
    folder: Path,
    processes: Processes,
    seed: int,
    seconds: float,
    *,
    kinds: Collection[str] = KINDS,
    weaken: str = "",
    devices: int = DEVICES,
    haste: float = 1.0,
    said: Callable[[Counter[str]], None] = lambda _: None,
) -> Outcome:
    """Faults of *kinds* for *seconds*, then the verdict.

    *haste* shortens the calm between faults of broker, network and city. *said* is told every
    second what was done so far.
    """
    folder.mkdir(parents=True)
    chosen, database = frozenset(kinds), folder / "city.db"
    broker = FaultyBroker(folder / "broker")
    with broker:
        ways = [Proxy(broker.port), Proxy(broker.port)]

        def city(point: str, at: int) -> Life:
            return processes.start(
                "city",
                folder / "city.log",
                database=str(database),
                port=ways[1].port,
                point=point,
                at=at,
                weak=weaken == "ack-before-commit",
            )

        town = [
            DeviceDriver(
                f"bus-{number}",
                seed,
                chosen,
                folder=folder / f"bus-{number}",
                processes=processes,
                port=ways[0].port,
                weak=weaken == "normal-sync",
            )
            for number in range(devices)
        ]
        city_driver = CityDriver(seed, chosen, haste, city)
        drivers: list[Driver] = [
            *town,
            BrokerDriver(seed, chosen, haste, broker),
            NetworkDriver(seed, chosen, haste, ways),
            city_driver,
        ]
        try:
            _run(drivers, seconds, said)
            city_driver.restart()
            drain_seconds = WEAK_DRAIN_SECONDS if weaken else DRAIN_SECONDS
            _together([threading.Thread(target=d.drain, args=(drain_seconds,)) for d in town])
        finally:
            city_driver.end()
            for way in ways:
                way.close()
    outcome = Outcome(seed)
    for driver in drivers:
        outcome.by_kind += driver.done
        outcome.problems += driver.problems
    for device in town:
        verdict = judge(device.ledger, list(at_city(database, device.name)), damaged=device.damaged)
        outcome.by_kind += device.ledger.faults
        outcome.events += verdict.events
        outcome.destroyed += verdict.destroyed
        outcome.lost += [f"{device.name} {what}" for what in verdict.lost]
        outcome.duplicated += [f"{device.name} {what}" for what in verdict.duplicated]
    return outcome


def _run(drivers: list[Driver], seconds: float, said: Callable[[Counter[str]], None]) -> None:
    for driver in drivers:
        driver.start()
    pause = threading.Event()
    whole, rest = divmod(seconds, 1.0)
    for step in [*[1.0] * int(whole), rest]:
        pause.wait(step)
        said(sum((driver.done.copy() for driver in drivers), Counter()))
    for driver in drivers:
        driver.stopping.set()
    for driver in drivers:
        driver.join(30.0)
        if driver.is_alive():
            driver.problems.append(f"{driver.name} hangs")


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
