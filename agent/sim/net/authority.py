"""A certificate authority for a day, in memory: for brokers on loopback, for devices on trial."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = ipaddress.ip_address("127.0.0.1")


class ThrowawayAuthority:
    """Signs what it is asked to; nobody else's computer trusts it."""

    def __init__(self, name: str = "kaopass, for a day") -> None:
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        self.certificate = builder.add_extension(usage, True).sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """What others have to trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, key: ec.EllipticCurvePublicKey, *, days: float = 1.0
    ) -> x509.Certificate:
        """A certificate for *key* under *name*, for both ends of a connection on loopback."""
        here = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(LOOPBACK)])
        uses = x509.ExtendedKeyUsage(
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        builder = self._builder(name, key, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        builder = builder.add_extension(here, False).add_extension(uses, False)
        return builder.sign(self._key, hashes.SHA256())

    def issue_pair(self, name: str) -> tuple[bytes, bytes]:
        """(certificate, key) in PEM for *name*, with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate = self.issue(name, key.public_key())
        return certificate.public_bytes(serialization.Encoding.PEM), secret

    def _builder(
        self, subject: str, key: ec.EllipticCurvePublicKey, days: float = 1.0
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(_named(subject))
            .issuer_name(_named(self._name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(signer, False)
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
