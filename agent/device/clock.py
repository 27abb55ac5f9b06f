"""The time on every clock of this device, and how far each may be trusted."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.base.events import Moment
from agent.base.values import BUILT_MS

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# systemd-timesyncd touches this at every synchronisation (systemd-timesyncd(8)).
_TIMESYNC = Path("/run/systemd/timesync/synchronized")
# It believes servers up to this far from the truth (RootDistanceMaxSec=, timesyncd.conf(5)).
_TIMESYNC_ERROR_MS = 5_000
# What the kernel itself reckons with: a clock left alone drifts by at most 500 ppm, and is no
# longer synchronised once it may be 16 s off (MAXFREQ and NTP_PHASE_LIMIT, <linux/timex.h>).
_DRIFT_MS_PER_MS = 1 / 2000
_MOST_ERROR_MS = 16_000

# <linux/timex.h>
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


@dataclass(frozen=True, slots=True)
class KernelClock:
    """The kernel's own word on its clock; ``error_ms`` bounds the error while synchronised."""

    synchronised: bool
    error_ms: int


class _Timex(ctypes.Structure):
    """``struct timex`` as far as it is read; the kernel writes 208 bytes on 64-bit machines."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_clock() -> KernelClock | None:
    """Ask the kernel by adjtimex(2) without changing anything; None where that is not allowed."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):  # a C library without it
        return None
    timex = _Timex()
    state = adjtimex(ctypes.byref(timex))
    if state < 0:  # e.g. EPERM under a system call filter without it
        return None
    synchronised = state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return KernelClock(synchronised, -(-timex.maxerror // 1000))  # microseconds, rounded up


class SystemClock:
    """The clocks of this machine, as ``agent.base.ports.Clock``.

    ``Moment.clock`` is "ntp" while the kernel calls its clock synchronised, "unset" while the
    time is before this software was written, "saved" otherwise (carried over a reboot or adrift
    since the network went). Where the kernel may not be asked (``ProtectClock=``), the age of
    timesyncd's mark gives the same answer.
    """

    def __init__(
        self,
        *,
        boot_id_file: Path = _BOOT_ID,
        timesync_file: Path = _TIMESYNC,
        kernel: Callable[[], KernelClock | None] = kernel_clock,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._boot = boot_id_file.read_text(encoding="ascii").strip()
        self._timesync_file = timesync_file
        self._kernel = kernel
        self._wall_ns = wall_ns

    def now(self) -> Moment:
        """The present moment on every clock; ``error_ms`` bounds the error of "ntp", else -1."""
        wall_ms = self._wall_ns() // 1_000_000
        clock, error_ms = self._trust(wall_ms)
        return Moment(self._boot, self.mono_ms(), wall_ms, clock, error_ms)

    def mono_ms(self) -> int:
        """CLOCK_MONOTONIC in milliseconds: never set, never stepped, 0 at boot."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000

    def _trust(self, wall_ms: int) -> tuple[str, int]:
        if wall_ms < BUILT_MS:
            return "unset", -1
        kernel = self._kernel()
        if kernel is None:
            return self._trust_mark(wall_ms)
        return ("ntp", kernel.error_ms) if kernel.synchronised else ("saved", -1)

    def _trust_mark(self, wall_ms: int) -> tuple[str, int]:
        try:
            marked_ms = self._timesync_file.stat().st_mtime_ns // 1_000_000
        except OSError:
            return "saved", -1
        age_ms = wall_ms - marked_ms
        error_ms = _TIMESYNC_ERROR_MS + round(age_ms * _DRIFT_MS_PER_MS)
        # A mark from the future: the clock was set back since, by whoever.
        trusted = age_ms >= 0 and error_ms <= _MOST_ERROR_MS
        return ("ntp", error_ms) if trusted else ("saved", -1)


def boottime_ms() -> int:
    """CLOCK_BOOTTIME: how long this device has been on, asleep or not."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
