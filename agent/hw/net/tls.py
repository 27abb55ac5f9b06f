"""TLS towards a broker: the files, the context, and what went wrong in plain words."""

from __future__ import annotations

import select
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from agent.base.errors import LinkError
from agent.base.values import BUILT_MS

# X509_V_FLAG_NO_CHECK_TIME, <openssl/x509_vfy.h>; the ssl module has no name for it.
_NO_CHECK_TIME = 0x200000
_REFUSAL_MS = 1_000
REVOKED = "this device was revoked by the city; ask for a new claim, then: kaopass provision"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS 1.2 or later. ``ca`` None: the system's authorities; certificate and key: this side's."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class _ClosingSocket(ssl.SSLSocket):
    """paho leaves the socket open when the handshake fails; a device that retries would run out."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            self._hear_refusal()
        except BaseException:
            self.close()
            raise

    def _hear_refusal(self) -> None:
        """With TLS 1.3, whether this side's certificate is taken is said after the handshake.

        It is heard before anything is sent: who writes into a connection that was closed loses
        what was said last. A broker that takes it says something at once, too (session tickets).
        """
        if self.version() != "TLSv1.3":
            return
        poll, timeout = select.poll(), self.gettimeout()
        poll.register(self, select.POLLIN)
        if not poll.poll(_REFUSAL_MS):
            return
        self.settimeout(0)
        try:
            self.recv(1)  # no broker sends data of its own before it was spoken to
        except ssl.SSLWantReadError:
            pass
        finally:
            self.settimeout(timeout)


def clock_is_unset() -> bool:
    """Whether this clock shows a time from before this software was written: it was never set."""
    return time.time() * 1000 < BUILT_MS


def forgive_unset_clock(context: ssl.SSLContext) -> bool:
    """Let *context* not ask for dates while the clock was never set; returns whether it was so.

    Such a clock would refuse every certificate, and a board without a battery might never get the
    time. Chain, name and key are checked all the same.
    """
    unset = clock_is_unset()
    if unset:
        context.verify_flags |= _NO_CHECK_TIME
    return unset


def tls_context(tls: Tls) -> ssl.SSLContext:
    """A context that checks the broker's name and chain. Raises LinkError naming a bad file.

    Dates are left unchecked only while this clock was never set.
    """
    if (tls.certificate is None) != (tls.key is None):
        raise LinkError("TLS: certificate and key are needed together, only one is given")
    file: Path | None = tls.ca
    try:
        context = ssl.create_default_context(cafile=str(tls.ca) if tls.ca else None)
        file = tls.certificate
        if tls.certificate is not None:
            context.load_cert_chain(str(tls.certificate), str(tls.key))
    except OSError as error:  # ssl.SSLError is one
        raise LinkError(
            f"TLS: {file} cannot be used: {error.strerror or error}; it must be a readable PEM file"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _ClosingSocket
    forgive_unset_clock(context)
    return context


def says_revoked(reason: str) -> bool:
    """Whether *reason*, as OpenSSL words it, is that this side's certificate was revoked."""
    return "CERTIFICATE_REVOKED" in reason


def tls_trouble(error: ssl.SSLError) -> str:
    """Why there is no TLS, after the other side's certificate was found good."""
    reason = str(error.reason or error)
    if says_revoked(reason):
        return REVOKED
    return f"no TLS: {reason}; check port, TLS setting and certificates"


def connect_trouble(error: Exception) -> str:
    """Why connecting failed and what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; check the CA file and name"
    if isinstance(error, ssl.SSLError):
        return tls_trouble(error)
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved: {error.strerror}; check name and network"
    if isinstance(error, TimeoutError):
        return "no answer; check address, network and firewall"
    if isinstance(error, OSError):
        return f"cannot connect: {error.strerror or error}; check address and port"
    return f"cannot connect: {error}"
