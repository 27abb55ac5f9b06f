"""One life of the city side: the command itself, or the same parts with a moment to die at.

Plain lives are ``kaopass city serve``. To die between receiving and committing, or between
committing and acknowledging, the store is one that kills its own process there.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

from agent.base.values import Ack
from agent.cityos.events.store import Arrival, Key, Store
from agent.cityos.service.app import build_city, parse_broker
from agent.cli.city.group import command
from agent.journal.ranges import to_ranges

POINTS = ("city_before_commit", "city_before_ack")
LATE_SECONDS = 0.2


class MortalStore(Store):
    """Kills the process at *point* of its *at*-th commit."""

    def __init__(self, database: str, point: str, at: int) -> None:
        super().__init__(database)
        self._point = point
        self._left = at

    def commit(self, arrivals: dict[Key, Arrival], now_ms: int) -> dict[Key, Ack]:
        self._left -= 1
        if self._left == 0 and self._point == "city_before_commit":
            os.kill(os.getpid(), signal.SIGKILL)
        acks = super().commit(arrivals, now_ms)
        if self._left == 0 and self._point == "city_before_ack":
            os.kill(os.getpid(), signal.SIGKILL)
        return acks


class WeakStore(MortalStore):
    """The weakness a campaign must find: says that it has events, and commits them later."""

    def __init__(self, database: str, point: str, at: int) -> None:
        super().__init__(database, point, at)
        self._one_at_a_time = threading.Lock()

    def commit(self, arrivals: dict[Key, Arrival], now_ms: int) -> dict[Key, Ack]:
        threading.Thread(target=self._later, args=(arrivals, now_ms), daemon=True).start()
        return {
            key: Ack(key[1], 0, tuple(to_ranges(sorted(arrival.events))), (), now_ms)
            for key, arrival in arrivals.items()
        }

    def _later(self, arrivals: dict[Key, Arrival], now_ms: int) -> None:
        time.sleep(LATE_SECONDS)
        with self._one_at_a_time:
            super().commit(arrivals, now_ms)


def run(*, database: str, port: int, point: str = "", at: int = 0, weak: bool = False) -> None:
    """Serve until killed."""
    address = f"mqtt://127.0.0.1:{port}"
    if not point and not weak:
        arguments: list[Any] = ["serve", "--broker", address, "--database", database]
        command.main(arguments, standalone_mode=False)
        return
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    store = (WeakStore if weak else MortalStore)(database, point, at)
    build_city(parse_broker(address), store).run()
