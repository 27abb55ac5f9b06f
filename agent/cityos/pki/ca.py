"""The city's own certificate authority: a root, an issuing key under it, and what they sign.

The root signs the issuing certificate once, at ``create``; from then on ``root.key`` may, and
should, lie somewhere offline. Devices get certificates for TLS clients only, services either for
servers or for clients, so none can pass for the other.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.base.errors import CityError, MessageError
from agent.base.wholefile import write_file
from agent.protocol.signed import Role, Signer

DEVICE_DAYS = 365
SERVICE_DAYS = 825
_ROOT_DAYS = 7305
_ISSUING_DAYS = 3652
# A device's or broker's clock may be behind the city's.
BACKDATE = timedelta(hours=1)
# The city side's own names at the broker; no device may have one (``claims`` sees to it).
SERVICE_PREFIX = "city-"
_SERVICE = re.compile(rf"{SERVICE_PREFIX}[A-Za-z0-9_.-]{{1,50}}")

Key = ec.EllipticCurvePrivateKey


class Authority:
    """The city's authority in *directory*. Raises CityError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        try:
            self._root = x509.load_pem_x509_certificate(self.root_file.read_bytes())
            self._issuing = x509.load_pem_x509_certificate((directory / "issuing.pem").read_bytes())
            self._key = _load_key(directory / "issuing.key")
        except FileNotFoundError as error:
            raise CityError(
                f"there is no authority in {directory}: {Path(error.filename).name} is missing; "
                "make one with: kaopass city ca init"
            ) from error
        except (OSError, ValueError) as error:
            raise CityError(f"authority {directory} cannot be used: {error}") from error

    @classmethod
    def create(
        cls, directory: Path, name: str, note: Callable[[Path, str], object] = lambda *_: None
    ) -> Authority:
        """Make root and issuing key called *name*; all of it appears in *directory* or nothing.

        *note* hears where it is until then, and the root's fingerprint.
        """
        if directory.exists() and any(directory.iterdir()):
            raise CityError(f"{directory} is not empty; an authority is never written over another")
        root_key, issuing_key = _new_key(), _new_key()
        root_name, issuing_name = _name(f"{name} root"), _name(f"{name} issuing")
        root = _authority(root_name, root_name, root_key, root_key, _ROOT_DAYS, path_length=1)
        issuing = _authority(
            issuing_name, root_name, issuing_key, root_key, _ISSUING_DAYS, path_length=0
        )
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
            try:
                write_file(draft / "root.key", _pem(root_key))
                write_file(draft / "root.pem", root.public_bytes(Encoding.PEM))
                write_file(draft / "issuing.key", _pem(issuing_key))
                write_file(draft / "issuing.pem", issuing.public_bytes(Encoding.PEM))
                # Under the root itself: the issuing key is online, and must not sign galleries.
                _write_signer(draft, "gallery", Role.GALLERY, root_name, root_key, root)
                _write_signer(draft, "command", Role.COMMAND, issuing_name, issuing_key, issuing)
                note(draft, root.fingerprint(hashes.SHA256()).hex())
                draft.replace(directory)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
        except OSError as error:
            raise CityError(f"authority {directory} cannot be made: {error.strerror}") from error
        return cls(directory)

    @property
    def root_file(self) -> Path:
        return self.directory / "root.pem"

    @property
    def name(self) -> str:
        """What the town called its authority: who asks for consent, for example."""
        names = self._root.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value).removesuffix(" root")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the root: 64 hexadecimal digits."""
        return self._root.fingerprint(hashes.SHA256()).hex()

    def certificates(self) -> list[x509.Certificate]:
        """What others trust: the root, and the issuing certificate under it."""
        return [self._root, self._issuing]

    def certificates_pem(self) -> bytes:
        return b"".join(found.public_bytes(Encoding.PEM) for found in self.certificates())

    def sign_device(
        self,
        public_key: CertificatePublicKeyTypes,
        device: str,
        serial: str,
        days: float = DEVICE_DAYS,
    ) -> x509.Certificate:
        """A certificate by which *device* with hardware *serial* logs in; for nothing else."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, device),
                x509.NameAttribute(NameOID.SERIAL_NUMBER, serial),
            ]
        )
        builder = _builder(subject, self._issuing.subject, public_key, days)
        return self._sign(builder, public_key, ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_server(self, hosts: list[str], days: float = SERVICE_DAYS) -> tuple[bytes, bytes]:
        """(chain, key) as PEM for a server reached as *hosts* (names or addresses)."""
        if not hosts:
            raise CityError("a server's certificate needs at least one host")
        key = _new_key()
        public = key.public_key()
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = _builder(_name(hosts[0]), self._issuing.subject, public, days)
        builder = builder.add_extension(names, critical=False)
        leaf = self._sign(builder, public, ExtendedKeyUsageOID.SERVER_AUTH)
        return self._chain(leaf), _pem(key)

    def issue_worker(self, name: str, days: float = SERVICE_DAYS) -> tuple[bytes, bytes]:
        """(chain, key) as PEM for a worker of the city side that logs in as *name*, "city-..."."""
        if not _SERVICE.fullmatch(name):
            raise CityError(f"worker {name!r}: must begin with {SERVICE_PREFIX!r}, e.g. city-1")
        key = _new_key()
        public = key.public_key()
        builder = _builder(_name(name), self._issuing.subject, public, days)
        leaf = self._sign(builder, public, ExtendedKeyUsageOID.CLIENT_AUTH)
        return self._chain(leaf), _pem(key)

    def revocations(self, revoked: Iterable[tuple[str, int]]) -> bytes:
        """A revocation list, PEM: (certificate serial in hexadecimal, Unix ms) each.

        It ends only with the authority itself: the broker reads it from its own disk, so an old
        one is no attack, while one that ran out would lock every device of the town out.
        """
        now = _now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._issuing.subject)
            .last_update(now - BACKDATE)
            .next_update(self._issuing.not_valid_after_utc)
            .add_extension(_issuer_of(self._issuing), critical=False)
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
        )
        for serial, revoked_ms in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
            moment = datetime.fromtimestamp(revoked_ms / 1000, tz=timezone.utc)
            builder = builder.add_revoked_certificate(entry.revocation_date(moment).build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def signer(self, name: str) -> Signer:
        """What signs messages: "gallery", whose key may be kept offline, or "command"."""
        return signer(self.directory, name)

    def _chain(self, leaf: x509.Certificate) -> bytes:
        return leaf.public_bytes(Encoding.PEM) + self._issuing.public_bytes(Encoding.PEM)

    def _sign(
        self,
        builder: x509.CertificateBuilder,
        public_key: CertificatePublicKeyTypes,
        use: x509.ObjectIdentifier,
    ) -> x509.Certificate:
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signing=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(_issuer_of(self._issuing), critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _authority(
    subject: x509.Name, issuer: x509.Name, key: Key, signer: Key, days: float, *, path_length: int
) -> x509.Certificate:
    public = key.public_key()
    return (
        _builder(subject, issuer, public, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signing=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, days: float
) -> x509.CertificateBuilder:
    begin = _now() - BACKDATE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + BACKDATE + timedelta(days=days))
    )


def signer(directory: Path, name: str) -> Signer:
    """What signs messages as *name*, from its files in *directory* alone; a city worker that signs
    commands need not have the issuing key. Raises CityError."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    try:
        _check_mode(key)
        return Signer(certificate.read_bytes(), key.read_bytes())
    except OSError as error:
        raise CityError(
            f"the {name} signing key cannot be read: {error.filename}: {error.strerror}; if it "
            "is kept elsewhere, sign there"
        ) from error
    except MessageError as error:
        raise CityError(f"{key}: {error}") from error


def _write_signer(
    folder: Path, name: str, role: Role, issuer: x509.Name, key: Key, authority: x509.Certificate
) -> None:
    """Make a key that signs messages in *role*, certified by *key* of *authority*."""
    own = ed25519.Ed25519PrivateKey.generate()
    public = own.public_key()
    certificate = (
        _builder(_name(f"{SERVICE_PREFIX}{name}"), issuer, public, _ISSUING_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signing=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([role.value]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_issuer_of(authority), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_file(folder / f"{name}.key", _pem(own))
    write_file(folder / f"{name}.pem", certificate.public_bytes(Encoding.PEM))


def _issuer_of(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found)


def _usage(*, signing: bool) -> x509.KeyUsage:
    """For a leaf (*signing* messages), else for an authority (certificates and lists)."""
    return x509.KeyUsage(
        digital_signature=signing,
        key_cert_sign=not signing,
        crl_sign=not signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: Key | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _check_mode(path: Path) -> None:
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise CityError(f"{path} has mode {mode:04o}, so others may sign; run: chmod 0600 {path}")


def _load_key(path: Path) -> Key:
    _check_mode(path)
    key = load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CityError(f"{path} is no elliptic-curve key, so it is not this authority's")
    return key
