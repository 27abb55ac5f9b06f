"""Opens what the use cases of one device work on: its keys, audit log, gallery and journal."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from agent.base.audit import AuditLog
from agent.base.drivers import KeySourceDriver
from agent.base.errors import GalleryError, JournalError
from agent.device.clock import SystemClock, boottime_ms
from agent.gallery.city.lease import LEASE_FILE, LeaseFile
from agent.gallery.gallery import Gallery
from agent.journal import Journal
from agent.keys.ring import KeyRing
from agent.settings.drivers import KEY_SOURCES
from agent.settings.model import Settings
from agent.usecases.rotation import open_ring as open_from
from agent.usecases.subject import Places
from agent.wiring.devices import open_key_source
from agent.wiring.journal import JournalFile


def open_ring(settings: Settings) -> KeyRing:
    """The keys of the device that *settings* describe, as its agent and its commands share them.

    The device key is made on first use, but never where data written under another one lies.
    Raises KeySourceError.
    """
    state = settings.state_directory
    has_data = any((state / name).exists() for name in ("gallery.db", "journal.db"))
    return open_from(open_key_source(settings), state, may_create=not has_data)


class LocalDesk:
    """The device that *settings* describe, for whoever asks something of it beside its agent."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.gallery_file = settings.state_directory / "gallery.db"
        self.journal_file = settings.state_directory / "journal.db"

    @cached_property
    def ring(self) -> KeyRing:
        """``open_ring``, at its first use."""
        return open_ring(self.settings)

    @property
    def key_driver(self) -> KeySourceDriver:
        """The kind of place the device key is in."""
        return KEY_SOURCES.driver(self.settings.keys.source)

    @property
    def key_file(self) -> Path | None:
        """What lies on the disk of the device key; None for a credential, systemd's affair."""
        name = self.key_driver.file
        return self.settings.keys_directory / name if name else None

    @property
    def audit(self) -> AuditLog:
        """Who did what on this device."""
        return AuditLog(self.settings.audit_file, self.ring.audit_key())

    def gallery(self) -> Gallery:
        """The gallery there is. Raises GalleryError if there is none."""
        if not self.gallery_file.exists():
            raise GalleryError(
                f"there is no gallery at {self.gallery_file}; enrol somebody with kaopass gallery"
                " enroll, or name this device's settings with --settings"
            )
        return Gallery(self.gallery_file, self.ring, self.settings.models.pack)

    def gallery_to_enrol(self, pack: str) -> Gallery:
        """The gallery for templates of *pack*, made if there is none yet."""
        self.settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return Gallery(self.gallery_file, self.ring, pack, domain=self.settings.place.kind)

    def journal(self, *, read_only: bool = True) -> Journal:
        """The journal there is. Raises JournalError if there is none."""
        if not self.journal_file.exists():
            # Said before the keys are opened: without a journal there need not be any.
            raise JournalError(
                f"there is no journal at {self.journal_file} yet: 'kaopass run' makes it"
            )
        return Journal(self.journal_file, self.ring.journal_key(), read_only=read_only)

    def journal_to_write(self) -> Journal:
        """The journal, made if there is none yet."""
        return JournalFile.of(self.settings, self.ring).open()

    def lease_hours_left(self) -> float:
        """How long the city's gallery may still be used, by a running agent's last word with it."""
        file = LeaseFile(self.settings.state_directory / LEASE_FILE, self.ring.lease_key())
        used_ms = file.read(SystemClock().now().boot, boottime_ms())
        return max(0.0, self.settings.gallery.lease_hours - used_ms / 3_600_000)

    def places(self) -> Places:
        """Where this device keeps people."""
        device, pack = self.settings.device.name, self.settings.models.pack
        return Places(device, self.ring, self.gallery_file, self.journal_file, pack)
