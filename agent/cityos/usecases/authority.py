"""The city's authority: made, its services' certificates, its brokers, a gallery's head signed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.base.errors import CityError
from agent.base.wholefile import write_file
from agent.cityos.galleries.signing import HeadSigner
from agent.cityos.keys.audit import audit_log
from agent.cityos.pki.broker import write_config
from agent.cityos.pki.ca import Authority
from agent.cityos.usecases.office import Office
from agent.protocol.galleries.messages import Head


def make_authority(directory: Path, name: str, actor: str) -> str:
    """Make the authority called *name* in *directory*; its root's fingerprint.

    The log begins in it: with this entry, or not at all.
    """

    def note(draft: Path, fingerprint: str) -> None:
        audit_log(draft).append("authority.made", actor=actor, fingerprint=fingerprint)

    return Authority.create(directory, name, note).fingerprint


def issue_server(office: Office, hosts: Sequence[str]) -> None:
    """The EST server's certificate, for *hosts*, into the authority's directory."""
    folder = office.authority.directory
    with office.act() as note, _writing(folder):
        certificate, key = office.authority.issue_server(list(hosts))
        note("service.issued", host=hosts[0])
        write_file(folder / "est.pem", certificate)
        write_file(folder / "est.key", key)
        write_file(folder / "ca.pem", office.authority.certificates_pem())


def issue_worker(office: Office, name: str) -> Path:
    """The certificate of the city's worker *name*; its key lies beside it. Then tell brokers."""
    folder = office.authority.directory / "workers"
    with office.act() as note, _writing(folder):
        certificate, key = office.authority.issue_worker(name)
        note("service.issued", worker=name)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_file(folder / f"{name}.key", key)
        write_file(folder / f"{name}.pem", certificate)
    return folder / f"{name}.pem"


def configure_broker(
    office: Office,
    directory: Path,
    now_ms: int,
    *,
    hosts: Sequence[str],
    port: int,
    bind: str,
    connections: int,
    message_bytes: int,
    pid_file: Path | None,
) -> None:
    """Write what a broker reached as *hosts* needs into *directory*, and remember it."""
    with office.act() as note:
        note("broker.configured", host=hosts[0])
        write_config(
            *(directory, office.authority, office.registry, now_ms),
            hosts=list(hosts),
            port=port,
            bind=bind,
            connections=connections,
            message_bytes=message_bytes,
            pid_file=pid_file,
        )


def sign_head(office: Office, head: Head) -> bytes:
    """Sign *head* with the gallery's key, which may be here alone; older ones are refused."""
    with office.act() as note:
        return HeadSigner(office.authority)(
            head,
            lambda: note(
                "gallery.signed",
                gallery=head.gallery,
                epoch=head.epoch,
                version=head.version,
                root=head.root,
            ),
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CityError(f"{folder}: cannot be written: {error.strerror or error}") from error
