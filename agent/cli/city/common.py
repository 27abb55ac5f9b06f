"""What the commands of the city's authority share: its directory, its parts, its audit log."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agent.base.audit import AuditEntry, AuditLog, Fact
    from agent.cityos.pki.ca import Authority
    from agent.cityos.pki.claims import Registry

ca_option = click.option(
    "--ca-directory",
    "ca_directory",
    type=click.Path(path_type=Path, file_okay=False),
    default="city-ca",
    show_default=True,
    envvar="KAOPASS_CITY_CA",
    show_envvar=True,
    help="Where the city's authority and its registry are.",
)


@dataclass(frozen=True, slots=True)
class Office:
    """The authority, who has which certificate, and the log of it."""

    authority: Authority
    registry: Registry
    audit: AuditLog

    @property
    def actor(self) -> str:
        """Who types."""
        return getpass.getuser()

    def noting(self, action: str, **facts: Fact) -> Callable[[], AuditEntry]:
        """Writes the audit entry of what the user is doing, when it is called."""
        return lambda: self.audit.append(action, actor=self.actor, subject="", **facts)

    def publish(self) -> None:
        """Tell every broker, and the user what is left to do."""
        from agent.cityos.pki.broker import publish

        for line in publish(self.authority, self.registry, now_ms()):
            click.echo(line, err=True)


@contextmanager
def office(directory: Path) -> Iterator[Office]:
    """The authority in *directory*, opened. Raises CityError."""
    from agent.cityos.keys.audit import audit_log
    from agent.cityos.pki.ca import Authority
    from agent.cityos.pki.claims import Registry

    authority = Authority(directory)
    registry = Registry(directory)
    try:
        yield Office(authority, registry, audit_log(directory))
    finally:
        registry.close()


def note(directory: Path, action: str, device: str, what: str) -> None:
    """Write what the user does to *device* into the city's audit log, where there is a city's
    authority: without one nothing is signed, and no device obeys. Raises CityError."""
    if (directory / "issuing.pem").exists():
        from agent.cityos.keys.audit import audit_log

        audit_log(directory).append(action, actor=getpass.getuser(), device=device, what=what)


def now_ms() -> int:
    """Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
