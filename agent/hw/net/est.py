"""EST (RFC 7030, clarified by RFC 8951) over HTTPS, as a CertificateService; any server will do.

Every call is a connection of its own. Answers are read up to a limit and a deadline, and base64 is
taken as RFC 8951 has it: whatever the headers say, with white space anywhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from agent.base.errors import ProvisioningError, UsageError
from agent.base.values import BUILT_MS, Pending
from agent.hw.net.tls import Tls, connect_trouble, forgive_unset_clock

_PATH = "/.well-known/est"
_PORT = 443
_MOST_BYTES = 262_144  # an answer with a dozen certificates is 20 KB
_CHUNK = 16_384
_MOST_WORDS = 300  # of what a server says about a refusal
_LEAST_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1.0, 86_400.0
_UNSAID_RETRY_SECONDS = 30.0
_FINGERPRINT_DIGITS = 64


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    retry_after: str
    body: bytes


class EstClient:
    """One EST server as this device sees it (port CertificateService)."""

    def __init__(
        self,
        server: str,
        *,
        trust: bytes | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        """*server*: ``https://host[:port][/label]``. *trust*: PEM; None trusts the system's.

        *certificate* and *key* are shown to the server where it asks: needed for ``reenroll``.
        Raises UsageError for an address that is none.
        """
        self._host, self._port, self._path = _parsed(server)
        self._trust = trust
        self._tls = Tls(None, certificate, key)
        self._timeout_seconds = timeout_seconds

    def authorities(self) -> list[bytes]:
        """The server's authorities, DER. Raises ProvisioningError."""
        found = self._certificates(self._call("GET", "cacerts"))
        if not found:
            raise ProvisioningError(f"{self._name}: sent no authorities")
        return found

    def enroll(self, request: bytes, name: str, claim: str) -> bytes | Pending:
        """A certificate for the PKCS#10 *request*, with *claim* as the password of *name*."""
        basic = base64.b64encode(f"{name}:{claim}".encode()).decode("ascii")
        return self._issued(
            self._call("POST", "simpleenroll", request, {"Authorization": f"Basic {basic}"}),
            request,
        )

    def reenroll(self, request: bytes) -> bytes | Pending:
        """The next certificate, asked for with the one in use."""
        return self._issued(self._call("POST", "simplereenroll", request), request)

    @property
    def _name(self) -> str:
        return f"EST server {self._host}:{self._port}"

    def _issued(self, answer: _Answer, request: bytes) -> bytes | Pending:
        if answer.status == http.HTTPStatus.ACCEPTED:
            return Pending(_retry_seconds(answer.retry_after))
        wanted = x509.load_der_x509_csr(request).public_key()
        # A server may send more than the one asked for; ours is the one with our key.
        for der in self._certificates(answer):
            if x509.load_der_x509_certificate(der).public_key() == wanted:
                return der
        raise ProvisioningError(f"{self._name}: sent no certificate for this device's key")

    def _certificates(self, answer: _Answer) -> list[bytes]:
        try:
            plain = base64.b64decode(b"".join(answer.body.split()), validate=True)
            found = pkcs7.load_der_pkcs7_certificates(plain)
        except (binascii.Error, ValueError) as error:
            raise ProvisioningError(
                f"{self._name}: its answer is no certs-only PKCS#7 in base64: {error}; is this the "
                "address of an EST server?"
            ) from error
        return [certificate.public_bytes(Encoding.DER) for certificate in found]

    def _call(
        self,
        method: str,
        operation: str,
        request: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> _Answer:
        until = time.monotonic() + 3 * self._timeout_seconds
        body, sent = None, dict(headers or {})
        if request:
            body = base64.encodebytes(request)
            sent["Content-Type"] = "application/pkcs10"
            sent["Content-Transfer-Encoding"] = "base64"
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_seconds, context=self._context()
        )
        try:
            connection.connect()
            connection.request(method, f"{self._path}/{operation}", body, sent)
            response = connection.getresponse()
            self._check_dates(connection.sock, response.headers.get("Date", ""))
            answer = _Answer(
                response.status,
                response.headers.get("Retry-After", ""),
                self._body(response, until),
            )
        except ssl.SSLError as error:
            raise ProvisioningError(f"{self._name}: {_tls_trouble(error)}") from error
        except http.client.RemoteDisconnected as error:
            shown = " or does not take this device's certificate" if self._tls.key else ""
            raise ProvisioningError(
                f"{self._name}: closed the connection without an answer: it is busy{shown}; "
                "nothing has changed, so run the same again"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ProvisioningError(
                f"{self._name}: {connect_trouble(error)}; nothing has changed, so run the same "
                "again"
            ) from error
        finally:
            connection.close()
        if answer.status not in (http.HTTPStatus.OK, http.HTTPStatus.ACCEPTED):
            raise ProvisioningError(f"{self._name}: {operation} refused: {_words(answer)}")
        return answer

    def _context(self) -> ssl.SSLContext:
        try:
            if self._trust is None:
                context = ssl.create_default_context()
            else:
                context = ssl.create_default_context(cadata=self._trust.decode("ascii"))
            if self._tls.certificate is not None and self._tls.key is not None:
                context.load_cert_chain(str(self._tls.certificate), str(self._tls.key))
        except (OSError, ValueError) as error:
            raise ProvisioningError(
                f"{self._name}: the certificates to use with it cannot be read: {error}"
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._clock_unset = forgive_unset_clock(context)
        return context

    def _check_dates(self, sock: ssl.SSLSocket, date: str) -> None:
        """What can still be said of dates when this clock was never set.

        The server's own word must fall into its certificate's life, and that life must not have
        ended before this software was written.
        """
        if not self._clock_unset:
            return
        certificate = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"")
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        try:
            told = parsedate_to_datetime(date)
        except ValueError:
            told = None
        outside = told is not None and told.tzinfo is not None and not begin <= told <= end
        if outside or end.timestamp() * 1000 < BUILT_MS:
            raise ProvisioningError(
                f"{self._name}: its certificate is valid from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, "
                f"and by its own clock it is {date or 'unknown'}; this device's clock was never set"
            )

    def _body(self, response: http.client.HTTPResponse, until: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while chunk := response.read1(_CHUNK):
            parts.append(chunk)
            size += len(chunk)
            if size > _MOST_BYTES or time.monotonic() > until:
                raise ProvisioningError(
                    f"{self._name}: its answer is too long or too slow ({size} bytes so far)"
                )
        return b"".join(parts)


def pinned_authority(server: str, fingerprint: str, *, timeout_seconds: float = 10.0) -> bytes:
    """The authority (PEM) of *server* whose SHA-256 is *fingerprint* (RFC 7030, section 4.1.1).

    Asked over a connection that nothing vouches for, so nothing secret is sent there, and nothing
    but the fingerprint makes the answer good. Raises ProvisioningError, and UsageError for a
    fingerprint or an address that is none.
    """
    wanted = fingerprint.lower().removeprefix("sha256:").replace(":", "").strip()
    if len(wanted) != _FINGERPRINT_DIGITS or not set(wanted) <= set("0123456789abcdef"):
        raise UsageError(
            f"--ca-fingerprint {fingerprint}: must be a SHA-256 of 64 hexadecimal digits"
        )
    for der in _Unverified(server, timeout_seconds=timeout_seconds).authorities():
        if hashlib.sha256(der).hexdigest() == wanted:
            return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    raise ProvisioningError(
        f"{server}: none of its authorities has the fingerprint {wanted[:16]}...; this is another "
        "server than the claim's, or the fingerprint was copied wrongly"
    )


class _Unverified(EstClient):
    """Before anything is trusted; ``cacerts`` only."""

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._clock_unset = False
        return context


def _parsed(server: str) -> tuple[str, int, str]:
    try:
        parts = urlsplit(server)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"--server {server}: not an address: {error}") from error
    plain = not (parts.query or parts.fragment or parts.username)
    if parts.scheme != "https" or not parts.hostname or not plain:
        raise UsageError(f"--server {server}: give https://host:port")
    label = parts.path.strip("/").removeprefix(_PATH.strip("/")).strip("/")
    return parts.hostname, port or _PORT, f"{_PATH}/{label}" if label else _PATH


def _retry_seconds(text: str) -> float:
    try:
        seconds = int(text)
    except ValueError:  # a date, or nothing; how far off a date is depends on two clocks
        return _UNSAID_RETRY_SECONDS
    return min(max(seconds, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS)


def _words(answer: _Answer) -> str:
    """What the server says, fit for a terminal."""
    text = answer.body[:_MOST_WORDS].decode("utf-8", "replace").strip()
    plain = "".join(c if c.isprintable() else " " for c in text)
    return f"{plain or 'it does not say why'} (HTTP {answer.status})"


def _tls_trouble(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if "ALERT_CERTIFICATE_EXPIRED" in reason:
        return "this device's certificate has expired; provision it again with a new claim"
    if "ALERT" in reason and "REVOKED" not in reason:
        return f"does not accept this device's certificate: {reason}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted: {error.verify_message}; check --ca or "
            "--ca-fingerprint, the server's name, and this device's clock"
        )
    return connect_trouble(error)
