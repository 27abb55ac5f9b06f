"""Signed messages: a JWS with the signer's certificate in it, checked against the town's authority.

Compact serialisation (RFC 7515), EdDSA with Ed25519 (RFC 8037) down, ES256 up. ``x5c`` in the
header is the signer's certificate alone; whoever checks it has the authorities already. The
certificate's extended key usage says what it may sign (``Role``), and ``typ`` what is said, so that
no message can stand for one of another kind, nor a device's certificate for the city's.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Generic, TypeVar

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from jwt.api_jws import PyJWS

from agent.base.errors import MessageError
from agent.base.values import BUILT_MS
from agent.protocol.fields import compact, parse
from agent.protocol.forms import Form

MAX_SIGNED_BYTES = 65_536
_MAX_CERTIFICATE_BYTES = 4_096
_REMEMBERED = 256  # certificates found good, so that a city checks a device's once, not each time
# What reading a certificate that somebody altered may raise.
_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_SHAPE = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


T = TypeVar("T")


class Role(Enum):
    """What a certificate may sign, by its extended key usage.

    The two object identifiers are from the arc of random UUIDs (ITU-T X.667), which nobody assigns.
    """

    GALLERY = x509.ObjectIdentifier("2.25.322724599154335156155311184567873546904")
    COMMAND = x509.ObjectIdentifier("2.25.46261365944797402365688468813801547751")
    DEVICE = ExtendedKeyUsageOID.CLIENT_AUTH

    @property
    def algorithm(self) -> str:
        return "ES256" if self is Role.DEVICE else "EdDSA"


@dataclass(frozen=True, slots=True)
class Signed:
    """What was said, and by whom: the certificate's CN and its serial number in hexadecimal."""

    payload: dict[str, Any]
    signer: str
    serial: str


class Signer:
    """Signs messages with one private key; ``repr`` shows none of it."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """*certificate* and *key* are PEM; further certificates are passed over.

        Raises MessageError if they cannot be read or do not belong together.
        """
        try:
            self._certificate = x509.load_pem_x509_certificate(certificate)
            found = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise MessageError(f"signing key or certificate cannot be read: {error}") from error
        if isinstance(found, ed25519.Ed25519PrivateKey):
            self._algorithm = "EdDSA"
        elif isinstance(found, ec.EllipticCurvePrivateKey) and isinstance(
            found.curve, ec.SECP256R1
        ):
            self._algorithm = "ES256"
        else:
            raise MessageError("signing key: must be Ed25519 (the city's) or P-256 (a device's)")
        if found.public_key() != self._certificate.public_key():
            raise MessageError("signing key and certificate do not belong together")
        self._key = found
        self._x5c = base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode("ascii")

    def __repr__(self) -> str:
        return f"Signer({_common_name(self._certificate)!r})"

    @property
    def not_after_ms(self) -> int:
        """When the certificate ends, Unix time."""
        return round(self._certificate.not_valid_after_utc.timestamp() * 1000)

    def sign(self, kind: str, payload: Mapping[str, Any]) -> bytes:
        """*payload* (JSON values only) as a signed message of *kind*, for example "kp1-head"."""
        headers = {"typ": kind, "x5c": [self._x5c]}
        return (
            PyJWS().encode(compact(payload), self._key, self._algorithm, headers=headers).encode()
        )


class Trust:
    """Checks signed messages against a town's authorities. Any thread may call it."""

    def __init__(self, authorities: bytes) -> None:
        """*authorities* is PEM: the root, and what it certified. Raises MessageError."""
        try:
            found = x509.load_pem_x509_certificates(authorities)
        except ValueError as error:
            raise MessageError(f"the authorities cannot be read: {error}") from error
        self._issuers = _authorities(found)
        if not any(root for _, root in self._issuers):
            raise MessageError("the authorities lack the root that signs galleries")
        self._good: OrderedDict[tuple[bytes, Role], x509.Certificate] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, message: bytes, kind: str, role: Role, *, wall_ms: int) -> Signed:
        """What *message* of *kind* says, if it was signed in *role* by someone of this town.

        *wall_ms* is Unix time here; from before this software was written it was never set, and
        the certificate's dates are not asked for then. Raises MessageError.
        """
        if len(message) > MAX_SIGNED_BYTES:
            raise MessageError(f"{kind}: {len(message)} bytes, at most {MAX_SIGNED_BYTES} are read")
        if not _SHAPE.fullmatch(message):
            raise MessageError(f"{kind}: not a signed message")
        certificate = self._certificate(_header(message, kind, role), kind, role)
        _check_dates(certificate, kind, wall_ms)
        try:
            opened = PyJWS().decode_complete(
                message, _key(certificate, kind, role), algorithms=[role.algorithm]
            )
        except jwt.PyJWTError as error:
            raise MessageError(f"{kind}: its signature is not good") from error
        payload = parse(opened["payload"], MAX_SIGNED_BYTES, kind)
        if not isinstance(payload, dict):
            raise MessageError(f"{kind}: not an object")
        return Signed(payload, _common_name(certificate), f"{certificate.serial_number:x}")

    def _certificate(self, header: dict[str, Any], kind: str, role: Role) -> x509.Certificate:
        chain = header.get("x5c")
        if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
            raise MessageError(f"{kind}: x5c is not one certificate")
        if len(chain[0]) > _MAX_CERTIFICATE_BYTES:
            raise MessageError(f"{kind}: its certificate is too long")
        try:
            der = base64.b64decode(chain[0], validate=True)
        except (binascii.Error, ValueError) as error:
            raise MessageError(f"{kind}: its certificate is not base64") from error
        with self._lock:
            known = self._good.get((der, role))
            if known is not None:
                self._good.move_to_end((der, role))
                return known
        certificate = self._checked(der, kind, role)
        with self._lock:
            self._good[der, role] = certificate
            if len(self._good) > _REMEMBERED:
                self._good.popitem(last=False)
        return certificate

    def _checked(self, der: bytes, kind: str, role: Role) -> x509.Certificate:
        try:
            certificate = x509.load_der_x509_certificate(der)
            usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except _UNREADABLE as error:
            raise MessageError(f"{kind}: its certificate cannot be read") from error
        if constraints.value.ca or list(usage) != [role.value]:
            raise MessageError(f"{kind}: its certificate is not for this")
        _key(certificate, kind, role)
        for issuer, is_root in self._issuers:
            # Galleries are signed under the root alone: the issuing key is online, the root is not.
            if is_root or role is not Role.GALLERY:
                try:
                    certificate.verify_directly_issued_by(issuer)
                except (*_UNREADABLE, InvalidSignature):
                    continue
                return certificate
        raise MessageError(f"{kind}: its certificate is not from this town's authority")


@dataclass(frozen=True, slots=True)
class SignedForm(Generic[T]):
    """A kind of signed message: its ``typ``, in which role it is signed, and what it says."""

    typ: str
    role: Role
    form: Form[T]

    def sign(self, value: T, signer: Signer) -> bytes:
        """*value* as it is published."""
        return signer.sign(self.typ, self.form.write(value))

    def read(self, message: bytes, trust: Trust, device: str | None = None, *, wall_ms: int) -> T:
        """Raises MessageError unless this town signed it, for *device* if that is given.

        *wall_ms* as in ``Trust.check``. Says nothing of the message's own times.
        """
        told = trust.check(message, self.typ, self.role, wall_ms=wall_ms).payload
        if device is not None and told.get("device", device) != device:
            raise MessageError(f"{self.typ}: it is for another device")
        return self.form.read(told)


def _authorities(found: Iterable[x509.Certificate]) -> list[tuple[x509.Certificate, bool]]:
    """Those that may certify others, and whether each is a root."""
    issuers = []
    for certificate in found:
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except _UNREADABLE:
            continue
        if constraints.value.ca:
            issuers.append((certificate, certificate.issuer == certificate.subject))
    return issuers


def _key(
    certificate: x509.Certificate, kind: str, role: Role
) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    try:
        key = certificate.public_key()
    except _UNREADABLE as error:
        raise MessageError(f"{kind}: its certificate's key cannot be read") from error
    if role is Role.DEVICE:
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            return key
    elif isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise MessageError(f"{kind}: its certificate has a key of another kind")


def _header(message: bytes, kind: str, role: Role) -> dict[str, Any]:
    try:
        header = PyJWS().get_unverified_header(message)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise MessageError(f"{kind}: not a signed message") from error
    if header.get("typ") != kind or header.get("alg") != role.algorithm:
        raise MessageError(f"{kind}: signed as something else")
    return header


def _check_dates(certificate: x509.Certificate, kind: str, wall_ms: int) -> None:
    if wall_ms < BUILT_MS:
        return
    now = datetime.fromtimestamp(wall_ms / 1000, tz=timezone.utc)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise MessageError(
            f"{kind}: its certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d}, and here it is {now:%Y-%m-%d}; check the"
            " clock of this side"
        )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""
