"""What use cases about devices and certificates work on: the authority, its registry, the log.

Nothing here or in ``authority``, ``devices`` and ``keys`` needs SQLAlchemy: they work where a city
has no residents, and on the machine that keeps the gallery's key.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.base.audit import AuditLog, Note, audited
from agent.base.errors import CityError
from agent.cityos.keys.audit import audit_log
from agent.cityos.keys.keyfile import FILE, MASTER
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.broker import publish
from agent.cityos.pki.ca import Authority
from agent.cityos.pki.claims import Registry
from agent.hw.keystores.credential import CredentialKeySource
from agent.hw.keystores.file import FileKeySource


@dataclass(frozen=True, slots=True)
class CityPlaces:
    """Where a city keeps what it has; without *keys_directory* beside the authority."""

    ca_directory: Path = Path("city-ca")
    keys_directory: Path | None = None
    database: str = "city.db"

    @property
    def keys(self) -> Path:
        return self.keys_directory or self.ca_directory / "keys"

    @property
    def has_keys(self) -> bool:
        """Whether there are residents' keys: a city without galleries needs none."""
        return (self.keys / FILE).exists()


@dataclass(frozen=True, slots=True)
class Office:
    """The authority, who has which certificate, the log of it, and who acts (empty: the city)."""

    places: CityPlaces
    authority: Authority
    registry: Registry
    audit: AuditLog
    actor: str = ""

    def act(self) -> AbstractContextManager[Note]:
        """``audited`` for whoever acts."""
        return audited(self.audit, self.actor)

    def tell_brokers(self) -> tuple[str, ...]:
        """Bring every broker's rules up to date; what a person has left to do. Raises CityError."""
        return tuple(publish(self.authority, self.registry, now_ms()))


@contextmanager
def open_office(places: CityPlaces, actor: str = "") -> Iterator[Office]:
    """The authority in *places*, opened. Raises CityError."""
    authority = Authority(places.ca_directory)
    registry = Registry(places.ca_directory)
    try:
        yield Office(places, authority, registry, audit_log(places.ca_directory), actor)
    finally:
        registry.close()


@contextmanager
def open_keys(places: CityPlaces) -> Iterator[TownKeys]:
    """The city's keys; the master key from systemd where it hands one over, else from a file."""
    if not places.ca_directory.is_dir():
        raise CityError(f"there is no authority in {places.ca_directory}: kaopass city ca init")
    directory = places.keys
    if (directory / MASTER).exists() and not places.has_keys:
        raise CityError(
            f"{directory / FILE} is missing beside its master key, {MASTER!r}: put it back from its"
            " copy, with city serve stopped: kaopass city keys restore FILE"
        )
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and (Path(given) / MASTER).exists():
        keys = TownKeys(directory, CredentialKeySource(Path(given)))
    else:
        keys = TownKeys(directory, FileKeySource(directory))
    try:
        yield keys
    finally:
        keys.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000
