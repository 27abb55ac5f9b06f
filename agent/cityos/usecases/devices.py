"""A device at the city: claimed, certified (EST, RFC 7030), told what it stands for, revoked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.base.audit import Note
from agent.base.errors import CityError
from agent.base.values import Pending
from agent.cityos.pki.ca import DEVICE_DAYS
from agent.cityos.pki.claims import Issued, Refused
from agent.cityos.usecases.office import Office

if TYPE_CHECKING:
    from agent.cityos.usecases.galleries import Publication


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim's code, which is kept nowhere, and what the technician compares."""

    code: str
    expires_ms: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """What is left to do by hand, the gallery under another key, and what brokers did not take."""

    to_do: tuple[str, ...]
    gallery: Publication | None
    trouble: CityError | None


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks: the device's name, its hardware's serial number, and the key to be certified.

    Only the key is taken from a request; name, uses and times are the city's to say.
    """

    device: str
    serial: str
    key: CertificatePublicKeyTypes

    @property
    def key_digest(self) -> str:
        """SHA-256 of the key, as ``device list`` shows it."""
        spki = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate, and what a person has left to do for brokers to know of it."""

    issued: Issued
    to_do: tuple[str, ...] = ()


def claim(
    office: Office,
    device: str,
    serial: str,
    purpose: str,
    now_ms: int,
    *,
    hours: float,
    by_hand: bool,
) -> Claimed:
    """Let the hardware *serial* become *device*, once; claims for it before are void."""
    with office.act() as note:
        code = office.registry.claim(
            *(device, serial, hours, now_ms),
            lambda: note("claim.made", device=device, by_hand=by_hand, purpose=purpose),
            by_hand=by_hand,
            purpose=purpose,
        )
    return Claimed(code, now_ms + round(hours * 3_600_000), office.authority.fingerprint)


def approve(office: Office, device: str) -> None:
    """Let through the request of *device* that waits. Raises CityError if none does."""
    with office.act() as note:
        if not office.registry.approve(device, lambda: note("device.approved", device=device)):
            raise CityError(
                f"nothing waits for approval as {device!r}; see kaopass city device list"
            )


def enroll_device(
    office: Office, code: str, who: Applicant, now_ms: int, days: float = DEVICE_DAYS
) -> Certified | Pending | Refused:
    """Turn the claim *code* into a certificate, once; the same key gets the same one again."""
    fresh: list[Issued] = []
    with office.act() as note:

        def issue() -> Issued:
            fresh.append(_sign(office, who, days, note, "device.enrolled"))
            return fresh[0]

        found = office.registry.use(code, who.device, who.serial, who.key_digest, now_ms, issue)
    if isinstance(found, Issued):
        # One that was revoked before is barred by the rules still.
        return Certified(found, office.tell_brokers() if fresh else ())
    if isinstance(found, Refused) and found.status != 401:  # somebody holds a real claim
        _note_refusal(office, "claim.refused", who, found)
    return found


def renew_certificate(
    office: Office, in_use: x509.Certificate, who: Applicant, now_ms: int, days: float = DEVICE_DAYS
) -> Certified | Refused:
    """The next certificate for the holder of *in_use*, which TLS has checked."""
    number = f"{in_use.serial_number:x}"
    with office.act() as note:
        found = office.registry.renew(
            *(number, who.device, who.serial, now_ms),
            lambda: _sign(office, who, days, note, "device.renewed"),
        )
    if isinstance(found, Refused):
        _note_refusal(office, "renewal.refused", who, found)
        return found
    return Certified(found)


def serve(office: Office, device: str, purpose: str, now_ms: int) -> None:
    """*device* stands for *purpose* from now on: it gets its residents, and no others."""
    if all(row.name != device for row in office.registry.devices(now_ms)):
        raise CityError(f"there is no device {device!r}: see kaopass city device list")
    with office.act() as note:
        office.registry.serve(
            device, purpose, lambda: note("device.serves", device=device, purpose=purpose)
        )


def revoke(office: Office, device: str, now_ms: int) -> Revoked:
    """Lock *device* out: certificates and claims are void, brokers silence it, and its gallery goes
    on under a content key that it does not get.

    Where something failed half-way, the same does the rest. Trouble with a broker does not hold up
    the gallery: it comes with the result.
    """
    with office.act() as note:
        done = office.registry.revoke(device, now_ms, lambda: note("device.revoked", device=device))
    if not done and device not in office.registry.banned():
        raise CityError(f"there is no device {device!r} that could be revoked")
    to_do: tuple[str, ...] = ()
    trouble, gallery = None, None
    try:
        to_do = office.tell_brokers()
    except CityError as error:
        trouble = error
    purpose = office.registry.purpose(device)
    if purpose and office.places.has_keys:
        from agent.cityos.usecases.galleries import lock_out  # noqa: PLC0415 - see ``office``

        gallery = lock_out(office, purpose, now_ms)
    return Revoked(to_do, gallery, trouble)


def _sign(office: Office, who: Applicant, days: float, note: Note, action: str) -> Issued:
    certificate = office.authority.sign_device(who.key, who.device, who.serial, days)
    number = f"{certificate.serial_number:x}"
    note(action, device=who.device, certificate=number)  # before it is kept and sent
    return Issued(
        number,
        certificate.public_bytes(Encoding.PEM).decode("ascii"),
        round(certificate.not_valid_after_utc.timestamp() * 1000),
    )


def _note_refusal(office: Office, action: str, who: Applicant, refused: Refused) -> None:
    with office.act() as note:
        note(action, device=who.device, reason=refused.reason[:200])
