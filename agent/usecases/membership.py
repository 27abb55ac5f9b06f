"""Becoming, and staying, a device of one's city: a certificate by a claim, the next by the last.

Both are noted when the new certificate is proven and about to be put into use: until then the
device is what it was before.
"""

from __future__ import annotations

from agent.base.audit import AuditLog, audited
from agent.keys.certificates import Identity
from agent.link.provisioning.provisioning import Provisioned, Provisioning


def provision(
    provisioning: Provisioning,
    claim: str,
    *,
    server: str,
    device: str,
    serial: str,
    trust: bytes | None,
    audit: AuditLog | None,
    actor: str,
) -> Provisioned:
    """Make this machine the *device* that *claim* is for. Raises KaopassError.

    *trust* (PEM) is what *server* is trusted by, None: the system's authorities.
    """
    with audited(audit, actor) as note:

        def before_use(new: Identity) -> None:
            note("identity.provisioned", device=new.device, certificate=new.serial)

        return provisioning.enrol(server, device, serial, claim, trust, before_use)


def renew(provisioning: Provisioning, *, audit: AuditLog | None) -> Identity:
    """The next certificate for this device, which asks for it by itself. Raises KaopassError."""
    with audited(audit) as note:

        def before_use(new: Identity) -> None:
            note("identity.renewed", certificate=new.serial)

        return provisioning.renew(before_use).identity
