"""The city side's only builder: database, intake and link put together from plain values."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from agent.base.errors import UsageError
from agent.base.retry import Backoff, FailuresInMemory
from agent.cityos.events.intake import Intake
from agent.cityos.events.store import Store
from agent.cityos.galleries.library import Library
from agent.cityos.galleries.serving import GalleryHandler
from agent.cityos.pki.ca import signer
from agent.cityos.residents.faces import Threshold
from agent.cityos.service.chores import AutoPublish, TakeEnrolments, Tidy
from agent.cityos.service.loop import CityService, Handler, subscriptions
from agent.cityos.usecases.city import OpenCity
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls, tls_context
from agent.protocol.signed import Signer, Trust

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MOST_QUEUED_ACKS = 20_000


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the city's broker is and who we are to it."""

    host: str
    port: int
    tls: Tls | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    protocol: Literal["5", "3.1.1"] = "5"


def parse_broker(
    address: str,
    *,
    protocol: Literal["5", "3.1.1"] = "5",
    ca: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> BrokerAddress:
    """``mqtt://[user:password@]host[:port]`` or ``mqtts://...``. Raises UsageError."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"broker: not an address: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/"):
        raise UsageError("broker: give mqtt://host:port, or mqtts://host:port for TLS")
    secure = parts.scheme == "mqtts"
    if not secure and (ca or certificate or key):
        raise UsageError("broker: certificates need an mqtts:// address")
    return BrokerAddress(
        host=parts.hostname,
        port=port or _PORTS[parts.scheme],
        tls=Tls(ca, certificate, key) if secure else None,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        protocol=protocol,
    )


def command_signer(directory: Path) -> Signer | None:
    """What signs commands, by the authority's files in *directory*; None without its key."""
    return signer(directory, "command") if (directory / "command.key").exists() else None


def build_galleries(city: OpenCity, threshold: Threshold) -> GalleryHandler:
    """What answers devices about galleries, takes enrolments, and publishes by itself.

    Everything of *city* is its thread's once it is started.
    """
    authority = city.office.authority
    chores = (
        TakeEnrolments(city, threshold),
        Tidy(city),
        AutoPublish(city),  # last: it may have to wait for a person
    )
    return GalleryHandler(
        city.engine,
        Library(city.engine, city.keys),
        city.keys,
        city.office.registry,
        Trust(authority.certificates_pem()),
        authority.signer("command"),
        chores=chores,
    )


def build_city(
    broker: BrokerAddress,
    store: Store,
    *,
    share: str = "",
    handlers: Sequence[Handler] = (),
    signer: Signer | None = None,
) -> CityService:
    """A city worker on *broker* and *store*; workers with one *share* name divide the work.

    *handlers* answer what devices say beside events. *signer* signs commands and settings, for
    devices that were provisioned; without one the worker can only ask others for replays.

    Raises LinkError at once for certificate files that cannot be used.
    """
    if broker.tls is not None:
        tls_context(broker.tls)
    name = f"kaopass-city-{secrets.token_hex(6)}"

    def link() -> MqttLink:
        return MqttLink(
            broker.host,
            broker.port,
            client_id=name,
            protocol=broker.protocol,
            tls=broker.tls,
            username=broker.username,
            password=broker.password,
            subscriptions=subscriptions(share, handlers),
            max_queued_messages=_MOST_QUEUED_ACKS,
        )

    backoff = Backoff(FailuresInMemory(), min_seconds=0.5, max_seconds=30.0)
    return CityService(link, Intake(store, signer=signer), backoff, handlers)
