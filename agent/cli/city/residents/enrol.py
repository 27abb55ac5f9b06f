"""``kaopass city resident add|import``: enrol one person, or a whole town, from pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.base.errors import UsageError
from agent.cli.city.common import (
    city,
    city_options,
    notices_option,
    now_ms,
    publish_due,
    thresholds,
)
from agent.cli.common import json_option, print_json, settings_option

if TYPE_CHECKING:
    from agent.base.values import Vector
    from agent.cityos.residents.profiles import Given
    from agent.cityos.usecases.office import CityPlaces, Office
    from agent.settings.model import Settings

Embedder = Callable[[Iterable[str]], dict[str, "Vector"]]
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".mp4", ".mov", ".avi", ".mkv")
_CONSENTS = click.Choice(["bus", "hall", "linking", "statistics", "third_party"])
purposes_option = click.option(
    "--purpose",
    "purposes",
    type=_CONSENTS,
    multiple=True,
    required=True,
    help="What they consented to after reading its notice; may be given several times.",
)
language_option = click.option(
    "--language",
    type=click.Choice(["ja", "en"]),
    default="ja",
    show_default=True,
    help="In which language the notice was shown.",
)
guardian_option = click.option(
    "--guardian", is_flag=True, help="A guardian consented; needed below 16 years."
)
age_option = click.option(
    "--age", type=click.IntRange(0, 130), help="Only to check for a guardian; it is not kept."
)


@dataclass(frozen=True, slots=True)
class Words:
    """In which words somebody consents to what."""

    notices: Path | None
    purposes: tuple[str, ...]
    language: str
    guardian: bool = False

    def consents(self, office: Office) -> tuple[Given, ...]:
        """The consents, given now, to the notices with *office*'s name in them."""
        from agent.cityos.residents.profiles import Given
        from agent.notices.texts import load_notices

        texts, now = load_notices(office.authority.name, self.notices), now_ms()
        return tuple(
            Given(texts[purpose, self.language].consent(now, guardian=self.guardian), now)
            for purpose in dict.fromkeys(self.purposes)
        )


@click.command("add")
@city_options(keys=True, database=True)
@settings_option
@notices_option
@click.argument("person_id", metavar="ID")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--nickname", default="", help="What doors say to them; never their name.")
@purposes_option
@language_option
@guardian_option
@age_option
@json_option
def add(
    places: CityPlaces,
    settings_file: Path | None,
    notices_directory: Path | None,
    person_id: str,
    files: tuple[str, ...],
    nickname: str,
    purposes: tuple[str, ...],
    language: str,
    guardian: bool,
    age: int | None,
    as_json: bool,
) -> None:
    """Enrol ID from photographs or clips of that one person, and publish.

    The same networks and the same gate judge them as on a device. A face that is enrolled under
    another id is refused; one who is enrolled already gets the new templates instead of the old.
    Nothing of the pictures is kept.
    """
    from agent.cityos.residents.faces import EnrolledFaces
    from agent.cityos.residents.residents import Newcomer
    from agent.cityos.usecases.consents import check_guardian
    from agent.cityos.usecases.enrolling import enrol
    from agent.settings.model import load

    check_guardian(age, guardian)
    embed = _embedder(load(settings_file))
    with city(places) as opened:
        given = Words(notices_directory, purposes, language, guardian).consents(opened.office)
        faces = EnrolledFaces(opened.residents, thresholds())
        enrol(opened, faces, Newcomer(person_id, nickname, embed(files), given), now_ms())
        published = publish_due(opened)
    if as_json:
        print_json({"id": person_id, "consents": list(purposes), "published": published})
    else:
        click.echo(f"{person_id}: enrolled; published: {', '.join(published) or 'nothing yet'}")


@click.command("import")
@city_options(keys=True, database=True)
@settings_option
@notices_option
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@purposes_option
@language_option
@json_option
def import_directory(
    places: CityPlaces,
    settings_file: Path | None,
    notices_directory: Path | None,
    directory: Path,
    purposes: tuple[str, ...],
    language: str,
    as_json: bool,
) -> None:
    """Enrol a whole town: a folder a person in DIRECTORY, named by their id, with their pictures.

    All of them consented to the same. Who cannot be enrolled is reported with the reason and does
    not hold up the others; who is enrolled already is passed over, so a second run goes on. Exit
    code 1 if anybody was refused.
    """
    from agent.cityos.residents.faces import EnrolledFaces
    from agent.cityos.usecases.enrolling import enrol_many
    from agent.settings.model import load

    embed = _embedder(load(settings_file))
    folders = sorted(entry for entry in directory.iterdir() if entry.is_dir())
    if not folders:
        raise UsageError(
            f"{directory}: there is no folder in it; put each person's pictures in one"
        )
    with city(places) as opened:
        given = Words(notices_directory, purposes, language).consents(opened.office)
        faces = EnrolledFaces(opened.residents, thresholds())
        with click.progressbar(folders, label="enrolling", hidden=as_json) as bar:
            done = enrol_many(opened, faces, _people(bar, embed), given, now_ms)
        publish_due(opened)
    if as_json:
        print_json(
            {"enrolled": done.enrolled, "enrolled_before": done.before, "refused": done.refused}
        )
    else:
        for person, reason in done.refused.items():
            click.echo(reason if reason.startswith(f"{person}:") else f"{person}: {reason}")
        click.echo(
            f"{done.enrolled} enrolled, {done.before} were before, {len(done.refused)} refused"
        )
    if done.refused:
        sys.exit(1)


def _people(
    folders: Iterable[Path], embed: Embedder
) -> Iterator[tuple[str, Callable[[], Mapping[str, Vector]]]]:
    for folder in folders:
        yield folder.name, partial(_embedded, folder, embed)


def _embedded(folder: Path, embed: Embedder) -> Mapping[str, Vector]:
    files = sorted(str(file) for file in folder.iterdir() if file.suffix.lower() in PICTURES)
    if not files:
        raise UsageError("there is no picture in it")
    return embed(files)


def _embedder(settings: Settings) -> Embedder:
    from agent.wiring.devices import enrolment_frames
    from agent.wiring.parts import enroller, open_networks

    networks = open_networks(settings)
    enrol = enroller(settings, networks)

    def embed(files: Iterable[str]) -> dict[str, Vector]:
        enrolled = enrol.enrol((file, enrolment_frames(file)) for file in files)
        return {networks.embedder.pack: enrolled.templates}

    return embed
