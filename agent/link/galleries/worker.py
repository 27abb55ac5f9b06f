"""The gallery's own thread: what arrives is checked, sealed and written here, never at the door.

The sync thread passes messages on (``duty``), the pipeline asks who may be matched (``admission``),
and everything that takes long happens between the two.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from agent.base.errors import GalleryError, KaopassError
from agent.base.events import Moment
from agent.base.values import Standing
from agent.gallery.city.admission import Admission
from agent.gallery.city.copy import CityCopy
from agent.gallery.city.lease import Lease
from agent.gallery.city.meta import CityVersion
from agent.gallery.file.store import GalleryStore
from agent.link.galleries.duty import GalleryDuty
from agent.link.galleries.fetch import DEFAULT_TIMING, Timing
from agent.link.galleries.intake import Ears, GalleryIntake
from agent.protocol.galleries.messages import Hello, Want, sign_hello, sign_want
from agent.protocol.signed import Signer, Trust

log = logging.getLogger(__name__)

TURN_SECONDS = 0.2
LOOK_SECONDS = 2.0  # how late a change of the gallery by another process is noticed
SWEEP_SECONDS = 30.0  # after a start, which has enough to do without it
SWEEP_TRIES = 30  # of 2 s each: who reads a gallery holds its old pages for a while
IDENTITY_SECONDS = 30.0  # how often an identity that cannot be used is looked at again


@dataclass(frozen=True, slots=True)
class SigningIdentity:
    """Who this device is to the city, and whom it believes."""

    signer: Signer
    trust: Trust


def known_ms(moment: Moment) -> int | None:
    """Unix time at *moment*, None while no clock is known."""
    return moment.wall_ms if moment.is_known else None


class Downlink:
    """Keeps the copy of *gallery* ("bus" or "hall") that of the city. ``run`` in its own thread."""

    def __init__(
        self,
        device: str,
        gallery: str,
        *,
        store: Callable[[], GalleryStore],
        identity: Callable[[], SigningIdentity],
        private_key: bytes,
        lease: Lease,
        now: Callable[[], Moment],
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        """*store* opens the gallery for this thread; *identity* raises KaopassError where there is
        none."""
        self._device = device
        self._gallery = gallery
        self._open_store = store
        self._identity = identity
        self._private_key = private_key
        self._lease = lease
        self.admission = Admission(lambda: known_ms(now()), self.trouble)
        self._now = now
        self._changed: Callable[[], None] = lambda: None
        self._told: Callable[[int], None] = lambda _: None
        self._timing = timing
        self.duty = GalleryDuty(device)
        self._alarms: dict[str, str] = {}
        self._version: CityVersion | None = None
        self._root = ""
        self._intake: GalleryIntake | None = None
        self._signer: Signer | None = None
        self._connection = 0
        self._look_due = 0.0
        self._identity_due = 0.0
        self._sweeping = True  # what an earlier process left
        self._sweep_due = 0.0
        self._sweep_tries = 0
        self._applied = 0
        self._leaving: set[bytes] = set()

    def on_change(self, call: Callable[[], None]) -> None:
        """*call* when another version, or other keys, are in force, from this thread."""
        self._changed = call

    def on_time(self, call: Callable[[int], None]) -> None:
        """*call* with the city's time, Unix milliseconds, whenever it was signed just now."""
        self._told = call

    @property
    def standing(self) -> Standing:
        """What the birth says of the gallery."""
        if self._version is None:
            return Standing()
        return Standing(gallery_version=self._version.version, gallery_root=self._root)

    def trouble(self) -> str:
        """Why faces may not be used, and what to do; empty when they may."""
        version = self._version
        if version is None:
            return (
                "face recognition is off: no gallery has come from the city yet; publish one"
                " (kaopass city gallery publish), and see sync here"
            )
        now_ms = known_ms(self._now())
        if now_ms is not None and now_ms >= version.expires_ms:
            return (
                f"face recognition is off: version {version.version} of the city's gallery has"
                " expired, and none was signed since; sign one: kaopass city gallery publish"
            )
        intake = self._intake
        if intake is not None and intake.behind and not self._lease.proved:
            return (
                "face recognition is not on yet: the city has a newer version than this device,"
                " and who is gone in it is not known here before it has come; if it does not, see"
                " the city's log"
            )
        return self._lease.trouble()

    def alarms(self) -> list[str]:
        """For ``kaopass status``."""
        trouble = self.trouble()
        return [*([trouble] if trouble else []), *self._alarms.values()]

    def status(self) -> dict[str, Any]:
        """For ``kaopass status``: no word in it is about anybody."""
        version, intake = self._version, self._intake
        return {
            "source": "city",
            "epoch": version.epoch if version else 0,
            "version": version.version if version else 0,
            "root": self._root[:16],
            "count": version.count if version else 0,
            "doing": intake.doing if intake else "nothing",
            "applied": self._applied,
            "lease_hours_left": round(self._lease.left_ms / 3_600_000, 1),
            "refused": dict(intake.refused) if intake else {},
            "dropped": self.duty.dropped,
        }

    def run(self, stop: threading.Event) -> None:
        """Work until *stop* is set. Raises GalleryError when the gallery cannot be opened."""
        with closing(self._open_store()) as store:
            copy = CityCopy(store, self._gallery)
            self._intake, self._connection = None, 0
            self._note(copy)
            self._sweep_due = time.monotonic() + SWEEP_SECONDS
            while not stop.is_set():
                try:
                    self._turn(copy)
                except GalleryError as error:
                    self._trouble("gallery_write", str(error))
                    self._failed()
            self._lease.close()

    def _failed(self) -> None:
        if self._intake is not None:
            self._intake.failed(_mono_ms())

    def _turn(self, copy: CityCopy) -> None:
        letter = self.duty.get(TURN_SECONDS)
        self._follow_connection(copy)
        self._lease.turn()
        intake = self._intake
        if intake is not None:
            if letter is not None and letter.connection == self._connection:
                wall_ms = self._now().wall_ms
                intake.receive(letter.topic, letter.payload, _mono_ms(), wall_ms)
            intake.turn(_mono_ms())
        if time.monotonic() >= self._look_due:
            self._look(copy)

    def _follow_connection(self, copy: CityCopy) -> None:
        connection = self.duty.connection if self.duty.up else 0
        if connection == self._connection:
            return
        if self._connection:
            self._lease.disconnected()
            if self._intake is not None:
                self._intake.disconnected()
            self._connection = 0
        if connection and time.monotonic() >= self._identity_due:
            self._lease.connected()
            if self._know_myself(copy):
                self._connection = connection
                assert self._intake is not None  # noqa: S101 - made just now
                self._intake.connected(_mono_ms())

    def _know_myself(self, copy: CityCopy) -> bool:
        """Read the identity, which renewal may have changed."""
        try:
            identity = self._identity()
        except KaopassError as error:
            self._trouble("gallery_identity", f"no gallery can be asked for: {error}")
            self._identity_due = time.monotonic() + IDENTITY_SECONDS
            return False
        self._alarms.pop("gallery_identity", None)
        self._signer = identity.signer
        if self._intake is None:
            self._intake = GalleryIntake(
                self._device,
                self._gallery,
                copy,
                trust=identity.trust,
                private_key=self._private_key,
                send=self._send,
                ears=Ears(self._proved, self._leave, lambda: self._note(copy), self._told),
                timing=self._timing,
            )
        self._intake.trust = identity.trust
        return True

    def _send(self, ask: Hello | Want) -> None:
        signer = self._signer
        if signer is not None:
            sign = sign_hello(ask, signer) if isinstance(ask, Hello) else sign_want(ask, signer)
            self.duty.put(self._connection, sign)

    def _leave(self, keys: set[bytes]) -> None:
        self._leaving |= keys
        self.admission.revoke(keys)

    def _proved(self, sent_mono_ms: int) -> None:
        # The lease counts on another clock: what matters is how long ago it was.
        self._lease.proved_ago(_mono_ms() - sent_mono_ms)
        self._alarms.pop("gallery_write", None)

    def _note(self, copy: CityCopy) -> None:
        """What is in force now, for those who ask from other threads."""
        before = self._version
        self._version = copy.version
        self._root = copy.root if self._version else ""
        self._look_due = 0.0
        # Also after a repair, which leaves the version as it was.
        self._sweeping, self._sweep_due = True, 0.0
        # The root may be the one before: whom the city refused was never in it.
        if self._version is not None and (
            before is None or before.position != self._version.position
        ):
            self.admission.written(self._leaving)
            self._leaving.clear()
            if before is not None or self._intake is not None:
                self._applied += 1
                self._alarms.pop("gallery_write", None)
                log.info(
                    "gallery %s: version %d of the city's is in force",
                    self._gallery,
                    self._version.version,
                )
        self._changed()

    def _look(self, copy: CityCopy) -> None:
        """What others did to the gallery, and old templates to be overwritten."""
        self._look_due = time.monotonic() + LOOK_SECONDS
        if copy.stale and self._intake is not None:
            self._intake.refresh(_mono_ms())
            self._root = copy.root if self._version else ""
        idle = self._intake is None or self._intake.doing == "nothing"
        if self._sweeping and idle and time.monotonic() >= self._sweep_due:
            try:
                copy.sweep()
                self._sweeping, self._sweep_tries = False, 0
                self._alarms.pop("gallery_sweep", None)
            except GalleryError as error:
                self._sweep_tries += 1
                if self._sweep_tries >= SWEEP_TRIES:
                    self._trouble("gallery_sweep", str(error))

    def _trouble(self, key: str, text: str) -> None:
        if self._alarms.get(key) != text:
            log.warning("%s", text)
        self._alarms[key] = text


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000
