"""``kaopass city resident add|import``: enrol one person, or a whole town, from pictures."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError, ImageError, UsageError
from agent.cli.city.common import ca_option, now_ms
from agent.cli.city.town import (
    GALLERIES,
    Town,
    check_guardian,
    keys_option,
    load_texts,
    notices_option,
    thresholds,
    town,
)
from agent.cli.city.upkeep import database_option
from agent.cli.common import json_option, print_json, settings_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.base.values import Vector
    from agent.cityos.residents.profiles import Given
    from agent.settings.model import Settings

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


@click.command("add")
@ca_option
@keys_option
@database_option
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
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
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
    from agent.settings.model import load

    check_guardian(age, guardian)
    embed = _embedder(load(settings_file))
    with town(ca_directory, keys_directory, database) as opened:
        given = _consents(opened, notices_directory, purposes, language, guardian)
        _enrol(opened, person_id, nickname, embed(files), given)
        published = opened.publish(GALLERIES)
    result = {
        "id": person_id,
        "consents": list(purposes),
        "published": [f"{p.head.gallery} {p.head.epoch}.{p.head.version}" for p in published],
    }
    if as_json:
        print_json(result)
    else:
        said = ", ".join(result["published"]) or "nothing yet"
        click.echo(f"{person_id}: enrolled; published: {said}")


@click.command("import")
@ca_option
@keys_option
@database_option
@settings_option
@notices_option
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@purposes_option
@language_option
@json_option
def import_directory(
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
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
    from agent.settings.model import load

    embed = _embedder(load(settings_file))
    folders = sorted(entry for entry in directory.iterdir() if entry.is_dir())
    if not folders:
        raise UsageError(
            f"{directory}: there is no folder in it; put each person's pictures in one"
        )
    enrolled, passed, refused = 0, 0, {}
    with town(ca_directory, keys_directory, database) as opened:
        from agent.cityos.residents.faces import Faces

        given = _consents(opened, notices_directory, purposes, language, False)
        faces = Faces(opened.residents, thresholds())
        with click.progressbar(folders, label="enrolling", hidden=as_json) as bar:
            for folder in bar:
                if opened.residents.exists(folder.name):
                    passed += 1
                    continue
                files = sorted(
                    str(file) for file in folder.iterdir() if file.suffix.lower() in PICTURES
                )
                try:
                    if not files:
                        raise UsageError("there is no picture in it")
                    _enrol(opened, folder.name, "", embed(files), given, faces)
                    enrolled += 1
                except (ImageError, UsageError, CityError) as error:
                    refused[folder.name] = str(error)
        opened.publish(GALLERIES)
    if as_json:
        print_json({"enrolled": enrolled, "enrolled_before": passed, "refused": refused})
    else:
        for person, reason in refused.items():
            click.echo(reason if reason.startswith(f"{person}:") else f"{person}: {reason}")
        click.echo(f"{enrolled} enrolled, {passed} were before, {len(refused)} refused")
    if refused:
        sys.exit(1)


def _enrol(
    opened: Town,
    person_id: str,
    nickname: str,
    enrolled: Mapping[str, Vector],
    given: tuple[Given, ...],
    faces: Any = None,
) -> None:
    from dataclasses import replace

    from agent.cityos.residents.faces import Faces
    from agent.cityos.residents.residents import Newcomer

    residents = opened.residents
    templates = {pack: residents.own.apply(rows) for pack, rows in enrolled.items()}
    ref = residents.keys.ref(person_id)
    faces = faces or Faces(residents, thresholds())
    if faces.same_as(templates, but=ref) is not None:
        raise UsageError(
            f"{person_id}: this face is enrolled already under another id; erase that one first, or"
            " add the pictures to it"
        )
    known = residents.exists(person_id)
    if known and not faces.is_same(ref, templates):
        raise UsageError(
            f"{person_id}: another face is enrolled under this id; is the id right? If it is,"
            " erase it first: kaopass city resident ID --erase"
        )
    opened.office.audit.append(
        "resident.enrolled", actor=opened.office.actor, subject=person_id, consents=len(given)
    )
    if known:
        residents.replace_templates(person_id, templates)
        residents.change(
            person_id,
            lambda profile: replace(
                profile,
                nickname=nickname or profile.nickname,
                consents=(*profile.consents, *given),
            ),
            now_ms(),
        )
    else:
        residents.add([Newcomer(person_id, nickname, templates, given)], now_ms())
    faces.add(ref, templates)


def _embedder(settings: Settings) -> Callable[[Iterable[str]], dict[str, Vector]]:
    from agent.wiring.devices import enrolment_frames
    from agent.wiring.parts import enroller, open_networks

    networks = open_networks(settings)
    enrol = enroller(settings, networks)

    def embed(files: Iterable[str]) -> dict[str, Vector]:
        enrolled = enrol.enrol((file, enrolment_frames(file)) for file in files)
        return {networks.embedder.pack: enrolled.templates}

    return embed


def _consents(
    opened: Town, notices: Path | None, purposes: tuple[str, ...], language: str, guardian: bool
) -> tuple[Given, ...]:
    from agent.cityos.residents.profiles import Given

    texts = load_texts(opened.office, notices)
    now = now_ms()
    return tuple(
        Given(texts[purpose, language].consent(now, guardian=guardian), now)
        for purpose in dict.fromkeys(purposes)
    )
