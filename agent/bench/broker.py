"""A Mosquitto of one's own to measure with: over TLS, by a throw-away authority, on loopback."""

from __future__ import annotations

import datetime
import getpass
import ipaddress
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.errors import LinkError, UsageError

START_SECONDS = 10.0
_LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of this machine that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


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
        url = f"{'mqtts' if self.authority else 'mqtt'}://{_LOOPBACK}:{self.port}"
        return ["--broker", url, *(["--ca", str(self.authority)] if self.authority else [])]


class Broker:
    """Mosquitto as a context manager; ``restart`` keeps the port. Raises LinkError."""

    def __init__(self, folder: Path, *options: str, tls: bool = True) -> None:
        """Raises UsageError when Mosquitto is not installed."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise UsageError("this needs the broker Mosquitto: apt-get install mosquitto")
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.authority: Path | None = None
        lines = [
            f"user {getpass.getuser()}",
            f"listener {self.port} {_LOOPBACK}",
            "allow_anonymous true",
            "set_tcp_nodelay true",  # as the city's own configuration of a broker has it
            *options,
        ]
        if tls:
            self.authority, certificate, key = make_certificates(folder)
            lines += [f"certfile {certificate}", f"keyfile {key}"]
        config = folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        self._command = [program, "-c", str(config)]
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The running process."""
        return self._process.pid if self._process else 0

    @property
    def address(self) -> Address:
        """How to reach it, from any process."""
        return Address(self.port, self.authority)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection((_LOOPBACK, self.port), 1.0).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    said = self._log.read_text(errors="replace")[-500:]
                    raise LinkError(f"mosquitto does not start: {said}") from error
                time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        process.wait(10)

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


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
        loopback = x509.IPAddress(ipaddress.ip_address(_LOOPBACK))
        alternatives = x509.SubjectAlternativeName([x509.DNSName("localhost"), loopback])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256())
