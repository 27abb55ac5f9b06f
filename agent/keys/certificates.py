"""Keys, requests and certificates of a device: made, read and checked, nothing kept or sent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from agent.base.errors import ProvisioningError
from agent.base.values import BUILT_MS

_LONGEST_CHAIN = 5
# Renewal falls between half and 60% of the lifetime, so that a fleet of one day spreads over weeks.
_RENEW_FROM, _RENEW_SPREAD = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate says. Times are Unix milliseconds; ``serial`` is the certificate's own."""

    device: str
    serial: str
    not_before_ms: int
    not_after_ms: int
    fingerprint: str

    @property
    def renew_at_ms(self) -> int:
        """When to renew: at half-life and a bit, drawn from the certificate itself.

        The same after every restart, another one for each certificate.
        """
        drawn = int(self.fingerprint[:8], 16) / 0xFFFFFFFF
        share = _RENEW_FROM + _RENEW_SPREAD * drawn
        return self.not_before_ms + round(share * (self.not_after_ms - self.not_before_ms))


@dataclass(frozen=True, slots=True)
class Chained:
    """A certificate that fits: itself with its issuers, and the authorities to trust (PEM)."""

    identity: Identity
    certificate: bytes
    authorities: bytes


def new_key() -> bytes:
    """A fresh P-256 key, PEM, unencrypted."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing_request(key: bytes, device: str, serial: str) -> bytes:
    """A PKCS#10 request, DER: CN is the *device*, serialNumber the hardware's *serial*."""
    names = [
        x509.NameAttribute(NameOID.COMMON_NAME, device),
        x509.NameAttribute(NameOID.SERIAL_NUMBER, serial),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(_private(key), hashes.SHA256()).public_bytes(Encoding.DER)


def key_fingerprint(key: bytes) -> str:
    """SHA-256 of the public half, for a person to compare with what the city shows: 64 digits."""
    return hashlib.sha256(_public_bytes(_private(key).public_key())).hexdigest()


def read_identity(certificate: bytes) -> Identity:
    """What the first certificate in *certificate* (PEM) says. Raises ProvisioningError."""
    try:
        return _identity(x509.load_pem_x509_certificate(certificate))
    except ValueError as error:
        raise ProvisioningError(f"the device's certificate cannot be read: {error}") from error


def bundle(authorities: list[bytes]) -> bytes:
    """The authorities (DER) as one PEM file. Raises ProvisioningError."""
    return b"".join(found.public_bytes(Encoding.PEM) for found in _load(authorities))


def chained(
    certificate: bytes, authorities: list[bytes], key: bytes, device: str, wall_ms: int
) -> Chained:
    """Check that *certificate* (DER) is ours, and chains to one of *authorities* (DER).

    The clock is asked only if it was ever set. Raises ProvisioningError saying what does not fit.
    """
    leaf, bag = _load([certificate])[0], _load(authorities)
    identity = _identity(leaf)
    if identity.device != device:
        raise ProvisioningError(
            f"the server sent a certificate for {identity.device!r}, not for {device!r}"
        )
    if _public_bytes(leaf.public_key()) != _public_bytes(_private(key).public_key()):
        raise ProvisioningError("the server sent a certificate for another key than this device's")
    if wall_ms >= BUILT_MS and identity.not_after_ms <= wall_ms:
        raise ProvisioningError(
            f"the server sent a certificate that ended {_day(identity.not_after_ms)}, but it is "
            f"{_day(wall_ms)} here; check the clocks of both"
        )
    chain = [leaf]
    while (issuer := _issuer(chain[-1], bag)) is not chain[-1]:
        chain.append(issuer)
        if len(chain) > _LONGEST_CHAIN:
            raise ProvisioningError(f"the server's chain is longer than {_LONGEST_CHAIN}")
    own = chain if len(chain) == 1 else chain[:-1]  # the root is what others must have already
    return Chained(
        identity, b"".join(c.public_bytes(Encoding.PEM) for c in own), bundle(authorities)
    )


def _issuer(certificate: x509.Certificate, bag: list[x509.Certificate]) -> x509.Certificate:
    """Who signed *certificate*: itself if it is a root in *bag*."""
    for candidate in bag:
        try:
            certificate.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return certificate if candidate == certificate else candidate
    raise ProvisioningError(
        "the server's authorities did not sign the certificate it sent; is it the right server?"
    )


def _load(certificates: list[bytes]) -> list[x509.Certificate]:
    try:
        return [x509.load_der_x509_certificate(der) for der in certificates]
    except ValueError as error:
        raise ProvisioningError(f"the server sent no certificate: {error}") from error


def _identity(certificate: x509.Certificate) -> Identity:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Identity(
        device=str(names[0].value) if names else "",
        serial=f"{certificate.serial_number:x}",
        not_before_ms=_unix_ms(certificate.not_valid_before_utc),
        not_after_ms=_unix_ms(certificate.not_valid_after_utc),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        found = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise ProvisioningError(f"the device's private key cannot be read: {error}") from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ProvisioningError("the device's private key is none of ours: not an elliptic curve")
    return found


def _public_bytes(key: object) -> bytes:
    # Every kind of public key has it, but they share no type.
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def _unix_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _day(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%d")
