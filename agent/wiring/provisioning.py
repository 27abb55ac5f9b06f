"""Builds what makes a device a member of its city from the settings: provisioning and renewal."""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.base.audit import AuditLog
from agent.base.errors import LinkError, ProvisioningError
from agent.base.values import LinkDown, LinkUp
from agent.hw.net.est import EstClient, pinned_authority
from agent.hw.net.mqtt import MqttLink
from agent.hw.net.tls import Tls
from agent.keys.certificates import Identity
from agent.link.provisioning.credentials import TRUST, Generation, IdentityFolder
from agent.link.provisioning.provisioning import Provisioning, no_step
from agent.link.provisioning.renewal import Renewal
from agent.protocol.signed import Signer, Trust
from agent.protocol.topics import down_topics
from agent.settings.model import Settings
from agent.usecases import membership

PROVE_SECONDS = 20.0
_TURN_SECONDS = 0.2


def broker_tls(settings: Settings) -> Tls | None:
    """How to speak TLS with the broker: the files of the settings, else the device's identity.

    Raises LinkError when the identity is damaged.
    """
    sync = settings.sync
    if not sync.tls:
        return None
    if sync.certificate_file is not None or sync.private_key_file is not None:
        return Tls(sync.ca_file, sync.certificate_file, sync.private_key_file)
    try:
        current = IdentityFolder(settings.identity_directory).current()
    except ProvisioningError as error:
        raise LinkError(str(error)) from error
    if current is None:
        return Tls(sync.ca_file)
    return Tls(sync.ca_file or current.authorities, current.certificate, current.key)


def signing(settings: Settings) -> tuple[Signer, Trust]:
    """What this device signs with, and who may sign to it: its broker certificate's town.

    Raises ProvisioningError when there is none, MessageError when it cannot be used.
    """
    current = IdentityFolder(settings.identity_directory).current()
    if current is not None:
        files = [current.certificate, current.key, current.authorities]
    else:
        sync = settings.sync
        given = [sync.certificate_file, sync.private_key_file, sync.ca_file]
        files = [path for path in given if path is not None]
    if len(files) < 3:
        raise ProvisioningError("this device has no certificate yet; run: kaopass provision")
    try:
        certificate, key, authorities = (path.read_bytes() for path in files)
    except OSError as error:
        raise ProvisioningError(f"{error.filename}: {error.strerror}") from error
    return Signer(certificate, key), Trust(authorities)


def server_trust(server: str, authority: bytes | None, fingerprint: str) -> bytes | None:
    """What *server* is trusted by: *authority* (PEM), else the one of *fingerprint* that it shows.

    None: the system's authorities. Raises KaopassError.
    """
    return pinned_authority(server, fingerprint) if fingerprint and not authority else authority


def provisioning(
    settings: Settings,
    server: str,
    trust: bytes | None,
    *,
    wait_seconds: float = 0.0,
    on_step: Callable[[str], None] = no_step,
) -> Provisioning:
    """What gets this machine its first certificate from *server*."""
    return Provisioning(
        IdentityFolder(settings.identity_directory),
        EstClient(server, trust=trust),
        lambda generation: prove(settings, generation),
        wait_seconds=wait_seconds,
        on_step=on_step,
    )


def renewal(settings: Settings, audit_key: bytes) -> Renewal:
    """The running agent's duty; idle on a device that was never provisioned."""
    folder = IdentityFolder(settings.identity_directory)
    audit = AuditLog(settings.audit_file, audit_key)
    return Renewal(folder, lambda: renew(settings, audit))


def renew(settings: Settings, audit: AuditLog) -> Identity:
    """The next certificate for this device. Raises KaopassError."""
    folder = IdentityFolder(settings.identity_directory)
    current = folder.current()
    if current is None:
        raise ProvisioningError("this device has no certificate yet; run kaopass provision")
    service = EstClient(
        current.plan.server,
        trust=_trust(current),
        certificate=current.certificate,
        key=current.key,
    )
    again = Provisioning(folder, service, lambda generation: prove(settings, generation))
    return membership.renew(again, audit=audit)


def prove(settings: Settings, generation: Generation) -> None:
    """Connect to the broker as *generation* and say goodbye. Raises LinkError if it does not work.

    A running agent of this name is disconnected for a moment by it, and comes back by itself.
    """
    sync = settings.sync
    link = MqttLink(
        sync.host,
        sync.port,
        client_id=settings.device.name,
        protocol=sync.protocol,
        tls=Tls(sync.ca_file or generation.authorities, generation.certificate, generation.key),
        keepalive_seconds=sync.keepalive_seconds,
        subscriptions=down_topics(settings.device.name),
    )
    until = time.monotonic() + PROVE_SECONDS
    try:
        link.open()
        while time.monotonic() < until:
            for event in link.turn(_TURN_SECONDS):
                if isinstance(event, LinkUp):
                    return
                if isinstance(event, LinkDown):
                    raise LinkError(event.reason)
    finally:
        link.close()
    raise LinkError(f"broker {sync.host}:{sync.port}: no answer within {PROVE_SECONDS:.0f} s")


def _trust(current: Generation) -> bytes | None:
    """What the server is trusted by from the second time on: what it was first, and its own."""
    first = current.read(TRUST)
    if first is None:
        return None  # the system's authorities vouched for it, and still do
    return first + (current.read(current.authorities.name) or b"")
