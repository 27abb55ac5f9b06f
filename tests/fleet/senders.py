"""Devices with real journals that send a backlog, and more beside it, in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

from agent.journal import Journal
from agent.lab.broker import Address
from agent.lab.sync import boarding, syncing
from agent.link.uplink.uplink import UplinkLimits

KEY = bytes(range(32))
SENDERS = 2  # processes the devices are divided among
GIVE_UP_SECONDS = 900.0
# What a killed worker had taken is sent again after this long.
LIMITS = UplinkLimits(batch_seconds=0.05, ack_timeout_seconds=2.0)


class Senders:
    """Devices ``bus-0``, ``bus-1`` ... with the journals ``0.db``, ``1.db`` ... of *folder*.

    They begin with ``go``, and send what is there and, at *rate* events a second all together,
    more until ``finish``.
    """

    def __init__(self, folder: Path, broker: Address, devices: int, rate: float = 0.0) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Value("i", 0 if rate else 1)
        senders = min(SENDERS, devices)
        self._ready = context.Barrier(senders + 1, timeout=60)
        self._processes = [
            context.Process(
                target=_send,
                args=(
                    *(folder, broker, range(at, devices, senders), rate / devices),
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


def _send(
    folder: Path,
    broker: Address,
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
