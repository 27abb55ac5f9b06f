"""The notify protocol against a real datagram socket, as systemd holds it."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.device.notify import Notifier, Watchdog, from_environment
from tests.waiting import LATE_SECONDS


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    """systemd's end of the notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + address[1:] if address.startswith("@") else address)
        listener.settimeout(LATE_SECONDS)
        yield listener


def received(listener: socket.socket) -> list[str]:
    listener.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(listener.recv(4096).decode())
        except BlockingIOError:
            return messages


class Clock:
    seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_hears_every_state(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@kaopass-test-{uuid.uuid4()}"
    with manager(address) as listener:
        notifier, _ = from_environment({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.watchdog()
        notifier.status("ready,\n3 people")
        notifier.stopping()
        notifier.close()
        assert received(listener) == [
            "READY=1",
            "WATCHDOG=1",
            "STATUS=ready, 3 people",
            "STOPPING=1",
        ]


def test_without_a_notify_socket_nothing_happens() -> None:
    notifier, watchdog = from_environment({})
    assert not notifier.connected
    notifier.ready()
    watchdog.feed()
    notifier.close()


def test_the_watchdog_is_fed_at_most_every_quarter_of_its_time(tmp_path: Path) -> None:
    address, clock = str(tmp_path / "notify"), Clock()
    with manager(address) as listener:
        notifier = Notifier(address)
        watchdog = Watchdog(notifier, 10.0, clock)
        for _ in range(100):  # ten seconds of a loop at 10 Hz
            watchdog.feed()
            clock.seconds += 0.1
        notifier.close()
        assert received(listener) == ["WATCHDOG=1"] * 4


def test_the_watchdogs_time_comes_from_the_environment(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "42"}
    with manager(address) as listener:
        for pid, expected in ((42, ["WATCHDOG=1"]), (43, [])):
            notifier, watchdog = from_environment(environ, pid=pid)
            watchdog.feed()
            watchdog.feed()
            notifier.close()
            assert received(listener) == expected


def test_a_manager_that_went_away_is_logged_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = str(tmp_path / "notify")
    with manager(address):
        notifier = Notifier(address)
        notifier.ready()
    Path(address).unlink()
    with caplog.at_level(logging.DEBUG):
        for _ in range(10):
            notifier.watchdog()
    assert len(caplog.records) == 1
    notifier.close()


def test_a_manager_that_does_not_read_never_blocks_the_loop(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address):
        notifier = Notifier(address)
        for _ in range(5000):  # far more than the socket's queue holds
            notifier.watchdog()
        notifier.close()


def test_a_reload_has_the_time_of_a_start_and_then_the_usual_watch(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager(address) as listener:
        notifier = Notifier(address)
        watchdog = Watchdog(notifier, 10.0, Clock())
        watchdog.feed()
        notifier.reloading()
        watchdog.begin_anew()
        watchdog.feed()
        watchdog.feed()
        notifier.close()
        first, reloading, *after = received(listener)
    assert first == "WATCHDOG=1"
    assert [line.split("=")[0] for line in reloading.splitlines()] == [
        *("RELOADING", "MONOTONIC_USEC", "WATCHDOG_USEC"),
    ]
    assert reloading.endswith("WATCHDOG_USEC=60000000")
    assert after == ["WATCHDOG_USEC=10000000", "WATCHDOG=1"]
