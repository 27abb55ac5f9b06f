"""One round of a campaign: a town under faults, then calm, then the ledger against the city."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from agent.cityos.events import asks
from tests.faults.broker import FaultyBroker
from tests.faults.drivers.device import FOREVER_DAYS, DeviceDriver
from tests.faults.drivers.driver import KINDS, Driver
from tests.faults.drivers.surroundings import BrokerDriver, CityDriver, NetworkDriver
from tests.faults.ledger import at_city, judge, set_aside
from tests.faults.network import Proxy
from tests.faults.processes import Life, Processes

WEAKNESSES = ("normal-sync", "ack-before-commit", "keep-nothing")
DEVICES = 4
DRAIN_SECONDS = 60.0  # a patience for busy machines: a town is drained in a few
# After a copy was restored the city asks for what it lacks, and after a while again.
WHOLE_SECONDS = DRAIN_SECONDS + (asks.GRACE_MS + asks.AGAIN_MS) / 1000
# What has left the devices for good cannot be sent again: no proof where both sides destroy.
RESTORING = 1 / 3  # of the rounds
_DESTROYING = frozenset({"disk_full", "damaged_page"})
LATE_SECONDS = 120.0  # more for a round whose faults are not enough: a busy machine
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
    enough: Callable[[Counter[str]], bool] = lambda done: done["events"] > 0,
) -> Outcome:
    """Faults of *kinds* for *seconds*, and on until they are *enough*, then the verdict.

    *enough* is told what was done so far, with "events" in journals and "undone" at the city.

    *haste* shortens the calm between faults of broker, network and city. *said* is told every
    second what was done so far.
    """
    folder.mkdir(parents=True)
    if weaken == "keep-nothing":  # which only a restored copy brings to light
        kinds = set(kinds) - _DESTROYING
    chosen, database = kinds_of_round(seed, kinds), folder / "city.db"
    restoring = "city_restored" in chosen
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
                keep_days=FOREVER_DAYS if restoring and weaken != "keep-nothing" else 0.0,
            )
            for number in range(devices)
        ]
        city_driver = CityDriver(seed, chosen, haste, city, database)
        drivers: list[Driver] = [
            *town,
            BrokerDriver(seed, chosen, haste, broker),
            NetworkDriver(seed, chosen, haste, ways),
            city_driver,
        ]

        def whole(device: DeviceDriver) -> bool:
            return not judge(device.ledger, at_city(database, device.name), damaged=False).lost

        try:
            _run(drivers, seconds, said, enough)
            city_driver.restart()
            patience = WHOLE_SECONDS if restoring else DRAIN_SECONDS
            drain = (WEAK_DRAIN_SECONDS if weaken else patience, whole if restoring else None)
            _together([threading.Thread(target=device.drain, args=drain) for device in town])
        finally:
            city_driver.end()
            for way in ways:
                way.close()
    outcome = Outcome(seed, problems=set_aside(database))
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


def kinds_of_round(seed: int, kinds: Collection[str]) -> frozenset[str]:
    """Which of *kinds* the round of *seed* has: some restore the city's copy, most destroy."""
    chosen = frozenset(kinds)
    if "city_restored" not in chosen or not chosen & _DESTROYING:
        return chosen
    restores = Random(f"{seed}/restores").random() < RESTORING
    return chosen - (_DESTROYING if restores else {"city_restored"})


def _run(
    drivers: list[Driver],
    seconds: float,
    said: Callable[[Counter[str]], None],
    enough: Callable[[Counter[str]], bool],
) -> None:
    for driver in drivers:
        driver.start()
    begun, done = time.monotonic(), Counter[str]()
    last = begun + seconds + LATE_SECONDS
    while (left := begun + seconds - time.monotonic()) > 0 or (
        not enough(done) and time.monotonic() < last
    ):
        time.sleep(min(left, 1.0) if left > 0 else 0.2)
        done = sum((driver.so_far() for driver in drivers), Counter())
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
