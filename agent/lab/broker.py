"""A Mosquitto of one's own to measure with: over TLS, by a throw-away authority, on loopback."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.sim.mosquitto import LOOPBACK, Mosquitto, free_port


def make_certificates(folder: Path) -> tuple[Path, Path, Path]:
    """(authority, certificate, key) files for loopback in *folder*, good for a day."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("kaopass bench", authority_key, None)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate("localhost", key, (authority, authority_key))
    files = (folder / "ca.pem", folder / "broker.pem", folder / "broker.key")
    files[0].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[2].touch(mode=0o600)
    files[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker on loopback is, and whose certificates to trust; None: it has no TLS."""

    port: int
    authority: Path | None

    @property
    def options(self) -> list[str]:
        """For ``kaopass city serve``."""
        url = f"{'mqtts' if self.authority else 'mqtt'}://{LOOPBACK}:{self.port}"
        return ["--broker", url, *(["--ca", str(self.authority)] if self.authority else [])]


class LabBroker(Mosquitto):
    """Mosquitto on a free port, where anybody is let in. Raises LinkError and UsageError."""

    def __init__(self, folder: Path, *options: str, tls: bool = True) -> None:
        port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {port} {LOOPBACK}",
            "allow_anonymous true",
            "set_tcp_nodelay true",  # as the city's own configuration of a broker has it
            *options,
        ]
        authority = None
        if tls:
            authority, certificate, key = make_certificates(folder)
            lines += [f"certfile {certificate}", f"keyfile {key}"]
        super().__init__(folder, port, lines)
        self.authority = authority

    @property
    def address(self) -> Address:
        """How to reach it, from any process."""
        return Address(self.port, self.authority)


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signer_name, signer = (name, key) if issuer is None else (issuer[0].subject, issuer[1])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
    )
    if issuer is None:
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
        builder = builder.add_extension(usage, critical=True)
    else:
        loopback = x509.IPAddress(ipaddress.ip_address(LOOPBACK))
        alternatives = x509.SubjectAlternativeName([x509.DNSName("localhost"), loopback])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256())
