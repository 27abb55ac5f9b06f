"""An EST server in memory: it certifies who has a claim, once, and renews what it certified."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from agent.base.errors import ProvisioningError
from agent.base.values import Pending
from agent.sim.net.authority import ThrowawayAuthority

RETRY_SECONDS = 1.0


class MemoryCertificates:
    """A ``ports.CertificateService``. *claims* are device -> its claim.

    Like a city's server it answers the same key again and refuses another one; with *approves* a
    request waits until ``approve()``.
    """

    def __init__(self, claims: dict[str, str], *, approves: bool = False) -> None:
        self.authority = ThrowawayAuthority()
        self._claims = dict(claims)
        self._waiting = approves
        self._keys: dict[str, bytes] = {}  # device -> the key it is known by

    def approve(self) -> None:
        """Let waiting requests through from now on."""
        self._waiting = False

    def authorities(self) -> list[bytes]:
        """The one certificate that vouches for all others."""
        return [self.authority.certificate.public_bytes(Encoding.DER)]

    def enroll(self, request: bytes, name: str, claim: str) -> bytes | Pending:
        """A certificate for *request*. Raises ProvisioningError for a wrong or used claim."""
        if self._claims.get(name) != claim:
            raise ProvisioningError(f"the server knows no such claim for device {name!r}")
        device, key = _read(request)
        if device != name:
            raise ProvisioningError(f"the request is for device {device!r}, the claim for {name!r}")
        if self._keys.setdefault(name, _bytes(key)) != _bytes(key):
            raise ProvisioningError("this claim was used already, with another key")
        return Pending(RETRY_SECONDS) if self._waiting else self._certified(device, key)

    def reenroll(self, request: bytes) -> bytes | Pending:
        """The next certificate. Raises ProvisioningError for a device that never had one."""
        device, key = _read(request)
        if device not in self._keys:
            raise ProvisioningError(f"the server never certified device {device!r}")
        self._keys[device] = _bytes(key)
        return self._certified(device, key)

    def _certified(self, device: str, key: ec.EllipticCurvePublicKey) -> bytes:
        return self.authority.issue(device, key).public_bytes(Encoding.DER)


def _read(request: bytes) -> tuple[str, ec.EllipticCurvePublicKey]:
    """Device and key of a PKCS#10 *request* (DER). Raises ProvisioningError."""
    try:
        found = x509.load_der_x509_csr(request)
    except ValueError as error:
        raise ProvisioningError(f"the request cannot be read: {error}") from error
    key = found.public_key()
    if not found.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
        raise ProvisioningError("the request is not signed by the key it names")
    names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else "", key


def _bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
