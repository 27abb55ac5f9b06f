"""How long a gallery may be used without hearing from the city, in time the device is powered on.

Two questions, both asked before faces are used: was it heard lately that this gallery is the
newest (the lease), and was it heard since this start, so that somebody revoked while the device
was off is not matched once more (the confirmation). Times are CLOCK_BOOTTIME milliseconds, which
goes on while a device sleeps and cannot be set; no wall clock is trusted for the lease.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.base.wholefile import write_file

log = logging.getLogger(__name__)

LEASE_FILE = "gallery.lease"  # in the state directory
SAVE_MS = 60_000  # also what a power cut costs at most: it is counted as used beforehand
RUN_OUT = 2**52


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """``lease_ms`` of use without proof; ``confirm_ms`` of waiting for one after a start."""

    lease_ms: int
    confirm_ms: int


class LeaseFile:
    """Remembers how much of the lease is used. What was altered or lost counts as run out."""

    def __init__(self, path: Path, key: bytes) -> None:
        """*key* vouches for the content; an older copy of the file put back it cannot tell."""
        self._path = path
        self._key = key
        self._writable = True

    def read(self, boot: str, boottime_ms: int) -> int:
        """Milliseconds used by now, in boot *boot* at *boottime_ms*."""
        try:
            told = json.loads(self._path.read_bytes())
            used, ahead = int(told["used_ms"]), int(told["ahead_ms"])
            then, when = str(told["boot"]), int(told["boottime_ms"])
            if not hmac.compare_digest(str(told["mac"]), self._mac(used, ahead, then, when)):
                raise ValueError("altered")
        except FileNotFoundError:
            return RUN_OUT
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s): the lease counts as run out", self._path, error)
            return RUN_OUT
        if then == boot:
            return used + max(0, boottime_ms - when)
        # In another boot: what it may have gone on for, and all the time since this one began.
        return used + ahead + boottime_ms

    def write(self, used_ms: int, ahead_ms: int, boot: str, boottime_ms: int) -> None:
        """*used_ms* by now; should another boot read it, *ahead_ms* more.

        On the disk on return. If it cannot be written the old one stays, which is as strict.
        """
        told = {"used_ms": used_ms, "ahead_ms": ahead_ms, "boot": boot, "boottime_ms": boottime_ms}
        told["mac"] = self._mac(used_ms, ahead_ms, boot, boottime_ms)
        try:
            write_file(self._path, json.dumps(told).encode("ascii"))
        except OSError as error:
            if self._writable:
                log.warning("%s cannot be written: %s", self._path, error)
            self._writable = False
        else:
            self._writable = True

    def _mac(self, used_ms: int, ahead_ms: int, boot: str, boottime_ms: int) -> str:
        text = f"{used_ms} {ahead_ms} {boot} {boottime_ms}"
        return hmac.digest(self._key, text.encode(), "sha256").hex()


class Lease:
    """Whether faces may be used. One thread changes it; any may ask ``trouble``."""

    def __init__(
        self, timing: LeaseTiming, file: LeaseFile, boot: str, boottime_ms: Callable[[], int]
    ) -> None:
        self._timing = timing
        self._file = file
        self._boot = boot
        self._now = boottime_ms
        started = boottime_ms()
        used = file.read(boot, started)
        self._proved_ms = started - used  # may be long before this boot, thus negative
        self._started_ms = started
        self._proved = False
        self._connected_ms: int | None = None
        self._save()

    @property
    def left_ms(self) -> int:
        """What is left of the lease."""
        return max(0, self._proved_ms + self._timing.lease_ms - self._now())

    @property
    def proved(self) -> bool:
        """Whether there was a proof since the start."""
        return self._proved

    @property
    def confirmed(self) -> bool:
        """Whether the city was heard since the start, or could not be for long enough."""
        if self._proved:
            return True
        since = max(self._started_ms, self._connected_ms or 0)
        return self._now() - since >= self._timing.confirm_ms

    def trouble(self) -> str:
        """Why faces may not be used, and what to do; empty when they may."""
        if not self.left_ms:
            return (
                "face recognition is off: nothing was heard from the city's gallery for"
                f" {self._timing.lease_ms / 3_600_000:g} h of powered-on time"
                " (gallery.lease_hours), so who was revoked is not known; bring the connection to"
                " the broker back: kaopass status says what is wrong with it"
            )
        if not self.confirmed:
            return (
                "face recognition is not on yet: after a start the city is asked first who was"
                f" revoked; without a connection it goes on after"
                f" {self._timing.confirm_ms / 1000:g} s (gallery.confirm_seconds)"
            )
        return ""

    def connected(self) -> None:
        """The broker is there: what it has to say is waited for."""
        self._connected_ms = self._now()

    def disconnected(self) -> None:
        self._connected_ms = None

    def proved_ago(self, ago_ms: int) -> None:
        """The city said that what is here was the newest *ago_ms* ago."""
        self._proved_ms = max(self._proved_ms, self._now() - ago_ms)
        self._proved = True
        self._save()

    def turn(self) -> None:
        """Write down what is used when it is due; a power cut before then gains nothing."""
        if self._now() >= self._save_due_ms:
            self._save()

    def close(self) -> None:
        """An orderly end: what is used exactly."""
        self._save(ahead_ms=0)

    def _save(self, ahead_ms: int = SAVE_MS) -> None:
        now = self._now()
        self._save_due_ms = now + SAVE_MS
        self._file.write(min(now - self._proved_ms, RUN_OUT), ahead_ms, self._boot, now)
