"""What the EST server answers: each request checked against claims and authority, no network here.

RFC 7030 with RFC 8951: cacerts, simpleenroll with the claim as the password of HTTP Basic,
simplereenroll with the certificate in use, csrattrs (none are asked for).
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from agent.base.errors import KaopassError
from agent.base.values import Pending
from agent.cityos.pki.ca import DEVICE_DAYS
from agent.cityos.pki.claims import Issued, Refused
from agent.cityos.usecases.devices import (
    Applicant,
    Certified,
    enroll_device,
    renew_certificate,
)
from agent.cityos.usecases.office import Office

log = logging.getLogger(__name__)

PATH = "/.well-known/est/"
MOST_BODY_BYTES = 16_384  # a request with an RSA-8192 key is 3 KB
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192
_METHODS = {"cacerts": "GET", "csrattrs": "GET", "simpleenroll": "POST", "simplereenroll": "POST"}


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. ``peer`` is the certificate TLS has verified (DER), None without one."""

    method: str
    path: str
    authorization: str
    body: bytes
    peer: bytes | None


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent back."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class _NotGrantedError(Exception):
    """Carries a refusal out of a check."""

    def __init__(self, status: int, reason: str) -> None:
        self.refused = Refused(status, reason)
        super().__init__(reason)


class Desk:
    """Answers one request at a time, from whatever thread; never raises."""

    def __init__(
        self,
        office: Office,
        *,
        days: float = DEVICE_DAYS,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """*days* is how long a device's certificate lasts."""
        self._office = office
        self._days = days
        self._wall_ms = wall_ms
        self._one_at_a_time = threading.Lock()

    def answer(self, request: Request) -> Response:
        """The answer to *request*; a refusal says why in plain text."""
        operation = request.path.partition("?")[0].removeprefix(PATH)
        try:
            if not request.path.startswith(PATH) or operation not in _METHODS:
                raise _NotGrantedError(404, "there are cacerts, simpleenroll and simplereenroll")
            if request.method != _METHODS[operation]:
                raise _NotGrantedError(405, f"{operation} is asked for by {_METHODS[operation]}")
            with self._one_at_a_time:
                return self._done(operation, request)
        except _NotGrantedError as error:
            return _refuse(error.refused.status, error.refused.reason)
        except KaopassError as error:
            log.error("a request cannot be answered: %s", error)
            return _refuse(503, "the city cannot answer at the moment; try again later")

    def _done(self, operation: str, request: Request) -> Response:
        if operation == "cacerts":
            return _certificates(self._office.authority.certificates(), "application/pkcs7-mime")
        if operation == "simpleenroll":
            return self._enroll(request)
        if operation == "simplereenroll":
            return self._reenroll(request)
        return Response(204)  # csrattrs: nothing is asked of a request beyond its subject

    def _enroll(self, request: Request) -> Response:
        code = _password(request.authorization)
        found = enroll_device(
            *(self._office, code, _applicant(request.body), self._wall_ms(), self._days)
        )
        if isinstance(found, Pending):
            return _refuse(
                202, "waits for approval", ("Retry-After", str(round(found.retry_seconds)))
            )
        return _granted(found)

    def _reenroll(self, request: Request) -> Response:
        if request.peer is None:
            raise _NotGrantedError(403, "a renewal needs the certificate in use, by TLS")
        peer = x509.load_der_x509_certificate(request.peer)
        who = _applicant(request.body)
        if (who.device, who.serial) != _subject(peer.subject):
            raise _NotGrantedError(
                403, "a renewal keeps the name and serial of the certificate in use"
            )
        return _granted(renew_certificate(self._office, peer, who, self._wall_ms(), self._days))


def _granted(found: Certified | Refused) -> Response:
    if isinstance(found, Refused):
        raise _NotGrantedError(found.status, found.reason)
    for line in found.to_do:
        log.warning("%s", line)
    return _issued(found.issued)


def _password(authorization: str) -> str:
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _NotGrantedError(401, "give the claim as the password of HTTP Basic")
    try:
        plain = base64.b64decode(given.strip(), validate=True).decode()
    # ValueError: what is not even ASCII, not base64, or not UTF-8 behind it.
    except ValueError as error:
        raise _NotGrantedError(401, "HTTP Basic is not base64 of name:claim") from error
    return plain.partition(":")[2]


def _applicant(body: bytes) -> Applicant:
    try:
        der = base64.b64decode(b"".join(body.split()), validate=True)
        csr = x509.load_der_x509_csr(der)
        good = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # binascii.Error is a ValueError
        raise _NotGrantedError(400, "the body is no PKCS#10 request in base64") from error
    if not good:
        raise _NotGrantedError(400, "the request's signature is not valid")
    strong = (
        isinstance(key, ed25519.Ed25519PublicKey)
        or (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES))
        or (isinstance(key, rsa.RSAPublicKey) and _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS)
    )
    if not strong:
        raise _NotGrantedError(
            400, "the key must be P-256 to P-521, Ed25519, or RSA from 2048 bits"
        )
    return Applicant(*_subject(csr.subject), key)


def _subject(subject: x509.Name) -> tuple[str, str]:
    """(device, hardware serial), each exactly once."""
    found = []
    for oid in (NameOID.COMMON_NAME, NameOID.SERIAL_NUMBER):
        values = subject.get_attributes_for_oid(oid)
        if len(values) != 1:
            raise _NotGrantedError(
                400, "the subject needs one CN (the device) and one serialNumber"
            )
        found.append(str(values[0].value))
    return found[0], found[1]


def _issued(found: Issued) -> Response:
    certificate = x509.load_pem_x509_certificate(found.pem.encode("ascii"))
    return _certificates([certificate], "application/pkcs7-mime; smime-type=certs-only")


def _certificates(certificates: list[x509.Certificate], kind: str) -> Response:
    body = base64.encodebytes(pkcs7.serialize_certificates(certificates, Encoding.DER))
    headers = (("Content-Type", kind), ("Content-Transfer-Encoding", "base64"))
    return Response(200, headers, body)


def _refuse(status: int, reason: str, *headers: tuple[str, str]) -> Response:
    if status == 401:
        headers = (*headers, ("WWW-Authenticate", 'Basic realm="kaopass"'))
    plain = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status, (plain, *headers), (reason + "\n").encode())
