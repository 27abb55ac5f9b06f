"""What the commands about residents and galleries share: database, keys, authority, publishing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.base.errors import CityError, ModelError, UsageError
from agent.cli.city.common import Office, now_ms, office
from agent.cli.city.upkeep import need_sqlalchemy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

    from agent.cityos.galleries.publishing import Published, Publisher
    from agent.cityos.galleries.signing import HeadSigner
    from agent.cityos.keys.townkeys import TownKeys
    from agent.cityos.residents.erasing import Eraser
    from agent.cityos.residents.faces import Threshold
    from agent.cityos.residents.residents import Residents
    from agent.notices.texts import Notice
    from agent.protocol.galleries.messages import Head
    from agent.protocol.signed import Trust

GALLERIES = ("bus", "hall")
SAME_FACE_FPIR = 0.001  # of this many strangers one is taken for somebody enrolled already

keys_option = click.option(
    "--keys-directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="KAOPASS_CITY_KEYS",
    show_envvar=True,
    help="Where the town's keys are; default: 'keys' in the authority's directory.",
)
notices_option = click.option(
    "--notices",
    "notices_directory",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="KAOPASS_CITY_NOTICES",
    show_envvar=True,
    help="The town's own notice texts; default: those that ship.",
)


@dataclass(frozen=True, slots=True)
class Town:
    """Everything about residents, opened."""

    office: Office
    engine: Engine
    keys: TownKeys
    residents: Residents
    eraser: Eraser
    publisher: Publisher
    trust: Trust
    signer: HeadSigner | None

    def publish(
        self, galleries: Iterable[str], *, force: bool = False, valid_days: float = 30.0
    ) -> list[Published]:
        """New versions of *galleries* where something changed; says what waits for a signature."""
        made = []
        for gallery in galleries:
            if self.signer is None:
                if self.publisher.is_due(gallery, now_ms()):
                    click.echo(
                        f"gallery {gallery} waits for its signature, as the gallery key is not on"
                        f" this machine: kaopass city gallery publish {gallery} --unsigned FILE",
                        err=True,
                    )
                continue
            found = self.publisher.publish(
                gallery, self.signer, now_ms(), force=force, valid_days=valid_days
            )
            if found is not None:
                made.append(found)
                self.note_published(found.head)
        return made

    def note_published(self, head: Head) -> None:
        """An audit entry of a version that is in force now."""
        self.office.noting(
            "gallery.published",
            gallery=head.gallery,
            epoch=head.epoch,
            version=head.version,
            residents=head.count,
        )()


@contextmanager
def town(ca_directory: Path, keys_directory: Path | None, database: str) -> Iterator[Town]:
    """The residents of the town whose authority is in *ca_directory*. Raises CityError."""
    need_sqlalchemy()
    from agent.base.values import PURPOSES
    from agent.cityos.db.database import open_engine
    from agent.cityos.galleries.publishing import Publisher
    from agent.cityos.galleries.signing import head_signer
    from agent.cityos.keys.keyfile import FILE
    from agent.cityos.residents.erasing import Eraser
    from agent.cityos.residents.residents import Residents
    from agent.protocol.signed import Trust

    # Beside keys there is a database: a new one in a wrong place would make every gallery empty.
    fresh = not ((keys_directory or ca_directory / "keys") / FILE).exists()
    with office(ca_directory) as opened, open_keys(ca_directory, keys_directory) as keys:
        engine = open_engine(database, create=fresh)
        try:
            signer = head_signer(opened.authority)
            if signer is not None:
                for gallery in PURPOSES:
                    keys.heard(gallery, signer.last(gallery))
            residents = Residents(engine, keys)
            trust = Trust(opened.authority.certificates_pem())
            publisher = Publisher(engine, residents, trust)
            eraser = Eraser(residents)
            yield Town(opened, engine, keys, residents, eraser, publisher, trust, signer)
        finally:
            engine.dispose()


@contextmanager
def open_keys(ca_directory: Path, keys_directory: Path | None) -> Iterator[TownKeys]:
    """The town's keys; the master key from systemd where it hands one over, else from a file."""
    from agent.cityos.keys.keyfile import FILE, MASTER
    from agent.cityos.keys.townkeys import TownKeys
    from agent.hw.keystores.credential import CredentialKeySource
    from agent.hw.keystores.file import FileKeySource

    if not ca_directory.is_dir():
        raise CityError(f"there is no authority in {ca_directory}: kaopass city ca init")
    directory = keys_directory or ca_directory / "keys"
    if (directory / MASTER).exists() and not (directory / FILE).exists():
        raise CityError(
            f"{directory / FILE} is missing beside its master key, {MASTER!r}: put it back from its"
            " copy, with city serve stopped: kaopass city keys restore FILE"
        )
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    if given and (Path(given) / MASTER).exists():
        keys = TownKeys(directory, CredentialKeySource(Path(given)))
    else:
        keys = TownKeys(directory, FileKeySource(directory))
    try:
        yield keys
    finally:
        keys.close()


def thresholds() -> Threshold:
    """From which cosine two faces are one person's, by the pack's own calibration."""
    from agent.packs.manifest import load_manifest
    from agent.recognition.rules import ENROLLED_VIEWS, pack_calibration

    manifest = load_manifest()

    def threshold(pack: str, templates: int, values: int) -> float:
        known = manifest.pack(pack)
        if known.embedding_size != values:
            raise ModelError(
                f"a template of {values} values: those of pack {pack!r} have {known.embedding_size}"
            )
        return pack_calibration(known).threshold(
            templates, SAME_FACE_FPIR, images=ENROLLED_VIEWS, views=ENROLLED_VIEWS
        )

    return threshold


def load_texts(opened: Office, directory: Path | None) -> Mapping[tuple[str, str], Notice]:
    """The notices, with the town's own name in them."""
    from agent.notices.texts import load_notices

    return load_notices(opened.authority.name, directory)


def check_guardian(age: int | None, guardian: bool) -> None:
    """Raises UsageError for somebody too young to consent alone (requirements A2)."""
    from agent.protocol.consent import GUARDIAN_AGE

    if age is not None and age < GUARDIAN_AGE and not guardian:
        raise UsageError(
            f"--age {age}: below {GUARDIAN_AGE} a guardian consents; give --guardian when one has"
        )
