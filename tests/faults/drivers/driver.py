"""What every maker of faults is: a thread whose choices follow from the round's seed.

Every choice comes from a generator seeded with the round's seed and the driver's name, so a seed
repeats a round's choices; how the threads interleave is the machine's.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from random import Random

from tests.faults.city import POINTS
from tests.faults.device import CLOCKS

KILLED = -9
KINDS = (
    *("sigkill", "power_cut", "disk_full", "damaged_page"),
    *(f"clock_{how}" for how in CLOCKS),
    *("broker_kill", "broker_wiped", "broker_quota", "broker_slow"),
    *("net_delay", "net_stall", "net_cut", "net_half_close"),
    *("city_kill", *POINTS, "city_restored"),
)


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
