"""Tells systemd how the service is: ready, alive, its status in a line, stopping (sd_notify(3))."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)


_RELOAD_SECONDS = 60  # as the unit's TimeoutStartSec


class Notifier:
    """Datagrams to systemd's notify socket; without one every call does nothing.

    *address* is ``$NOTIFY_SOCKET``: a path, or an abstract name that begins with "@". A manager
    that does not listen never stops the door: it is logged once.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address[0] == "@" else address
        self._socket: socket.socket | None = None
        self._lost = False
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            # A manager that is busy must not hold up the loop that sees faces.
            self._socket.setblocking(False)

    @property
    def connected(self) -> bool:
        """Whether somebody listens at all."""
        return self._socket is not None

    def ready(self) -> None:
        """Start-up is over: with ``Type=notify`` the unit counts as started from here on."""
        self._send("READY=1")

    def watchdog(self) -> None:
        """Another sign of life; without one for ``WatchdogSec=`` the service is restarted."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; no personal data."""
        self._send("STATUS=" + " ".join(text.split()))

    def stopping(self) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """The service begins anew in this process, which may take as long as a start."""
        # The clock is for Type=notify-reload; the longer watchdog because nobody feeds it now.
        now_us = time.monotonic_ns() // 1_000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}\nWATCHDOG_USEC={_RELOAD_SECONDS}000000")

    def watch(self, seconds: float) -> None:
        """From here on expect a sign of life within *seconds*."""
        self._send(f"WATCHDOG_USEC={round(seconds * 1e6)}")

    def close(self) -> None:
        """Close the socket; later calls do nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._lost:
                log.warning("systemd's notify socket does not take messages: %s", error)
            self._lost = True
        else:
            if self._lost:
                log.warning("systemd's notify socket takes messages again")
            self._lost = False


class Watchdog:
    """Feeds systemd's watchdog from the loop that does the work, and from nowhere else.

    Call ``feed()`` on every turn: it sends at most every quarter of *interval_seconds*. A half is
    the usual advice, but then a stall of just over a half can already be fatal; with a quarter,
    three quarters of the time are left for it. *interval_seconds* 0 feeds nobody.
    """

    def __init__(
        self,
        notifier: Notifier,
        interval_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._notifier = notifier
        self._interval_seconds = interval_seconds
        self._gap_seconds = interval_seconds / 4
        self._monotonic = monotonic
        self._last: float | None = None
        self._reloaded = False

    def begin_anew(self) -> None:
        """The service was reloaded: from the next turn on the usual interval counts again."""
        self._last, self._reloaded = None, True

    def feed(self) -> None:
        """The loop has turned; send a sign of life if it is time to."""
        if self._gap_seconds <= 0:
            return
        now = self._monotonic()
        if self._reloaded:
            self._reloaded = False
            self._notifier.watch(self._interval_seconds)
        if self._last is None or now - self._last >= self._gap_seconds:
            self._last = now
            self._notifier.watchdog()


def from_environment(
    environ: Mapping[str, str] = os.environ, pid: int | None = None
) -> tuple[Notifier, Watchdog]:
    """Notifier and watchdog as systemd asks for them in *environ*; both idle outside of it.

    ``WATCHDOG_PID`` must name this process (*pid*; default: os.getpid()), else the watchdog is
    somebody else's.
    """
    notifier = Notifier(environ.get("NOTIFY_SOCKET"))
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", "")
    mine = not meant or meant == str(os.getpid() if pid is None else pid)
    seconds = int(microseconds) / 1e6 if mine and microseconds.isdecimal() else 0.0
    return notifier, Watchdog(notifier, seconds)
