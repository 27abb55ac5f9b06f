"""``kaopass gallery enroll``: put a person into this device's gallery from pictures or a clip."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import UsageError
from agent.cli.common import counted, json_option, operator, print_json, settings_option
from agent.settings.model import Settings, load

if TYPE_CHECKING:
    from agent.gallery.gallery import Gallery
    from agent.protocol.consent import Consent
    from agent.usecases.residents import Enrollee
    from agent.wiring.desk import LocalDesk


@click.command("enroll")
@click.argument("person_id", metavar="ID")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@settings_option
@click.option("--nickname", default="", help="What the door says to them; never their name.")
@click.option(
    "--purpose",
    "purposes",
    type=click.Choice(["bus", "hall"]),
    multiple=True,
    help="With a local gallery: what they agreed to; may be given twice. [default: both]",
)
@click.option(
    "--consent",
    "consent_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="With the city's gallery: their consent records, a JSON array.",
)
@click.option(
    "--agreed",
    type=click.Choice(["bus", "hall", "linking", "statistics", "third_party"]),
    multiple=True,
    help="Or: a purpose they agreed to, told in --notice; may be repeated.",
)
@click.option("--notice", default="", metavar="VERSION", help="Which notice text they were shown.")
@click.option("--controller", default="", metavar="NAME", help="Who answers for the data.")
@click.option("--language", default="ja", show_default=True, help="The notice's language.")
@click.option("--guardian", is_flag=True, help="A guardian agreed for them.")
@click.option(
    "--days", type=click.IntRange(0, 36_500), default=0, help="Consent lapses after; 0: never."
)
@click.option(
    "--min-images", type=click.IntRange(1, 50), help="Accept fewer or ask for more views."
)
@click.option(
    "--allow-duplicate",
    is_flag=True,
    help="With a local gallery: enrol though another id has this face, for twins and siblings.",
)
@json_option
def command(
    person_id: str,
    files: tuple[str, ...],
    settings_file: Path | None,
    nickname: str,
    purposes: tuple[str, ...],
    min_images: int | None,
    allow_duplicate: bool,
    as_json: bool,
    **consent: Any,
) -> None:
    """Enrol ID from photographs or clips of that one person.

    Each picture must show one face, in usable quality; a refusal says why. A person already
    enrolled gets the new templates instead of the old. A face that is enrolled under another id is
    refused, as the door could not tell which of both it sees: the city does that for its gallery,
    this command for a local one. Nothing of the pictures is kept. A running agent takes the change
    up within seconds.

    Where the gallery is the city's (gallery.source), consent is asked for: a --consent file, or
    --agreed with --notice and --controller. The city gets it with the templates, and until it has
    published them they are known on this device alone, provisionally.
    """
    from agent.usecases.residents import Enrollee, SameFace, enroll
    from agent.wiring.desk import LocalDesk
    from agent.wiring.devices import enrolment_frames, must_exist
    from agent.wiring.parts import enroller, open_networks

    settings = load(settings_file)
    consents = _consents(settings, purposes, **consent)
    if consents and allow_duplicate:
        raise UsageError(
            "--allow-duplicate is for a local gallery; here the city looks for doubles"
        )
    must_exist(files)
    networks = open_networks(settings)
    desk = LocalDesk(settings)
    audit, pack = desk.audit, networks.embedder.pack
    # All refusals come before anything is touched; the plain embeddings stay in memory.
    enrol = enroller(settings, networks, min_images=min_images)
    enrolled = enrol.enrol((file, enrolment_frames(file)) for file in files)
    enrollee = Enrollee(person_id, enrolled.templates, nickname, purposes or ("bus", "hall"))
    with desk.gallery_to_enrol(pack) as gallery:
        if consents:
            _at_the_city(desk, gallery, enrollee, consents, pack)
        else:
            same = None if allow_duplicate else SameFace(settings.decision, networks.calibration)
            now_ms = time.time_ns() // 10**6
            enroll(gallery, enrollee, same, audit=audit, actor=operator(), now_ms=now_ms)
    result = {
        "id": person_id,
        "templates": len(enrolled.templates),
        "views_seen": enrolled.views_seen,
        "views_used": enrolled.views_used,
        "provisional": bool(consents),
    }
    if as_json:
        print_json(result)
        return
    views = counted(enrolled.views_seen, "view")
    click.echo(f"{person_id}: enrolled from {enrolled.views_used} of {views}")
    if consents:
        click.echo("provisionally, until the city publishes them: kaopass gallery status")


def _consents(
    settings: Settings,
    purposes: tuple[str, ...],
    *,
    consent_file: Path | None,
    agreed: tuple[str, ...],
    notice: str,
    controller: str,
    language: str,
    guardian: bool,
    days: int,
) -> tuple[Consent, ...]:
    """What they agreed to; nothing where the gallery is this device's own."""
    if settings.gallery.source == "local":
        if consent_file or agreed:
            raise UsageError(
                '--consent and --agreed are for the city\'s gallery (gallery.source = "city"); here'
                " use --purpose"
            )
        return ()
    from agent.device.clock import SystemClock
    from agent.link.galleries.worker import known_ms
    from agent.usecases.enrolling import consents_in, consents_to

    if purposes:
        raise UsageError("the gallery is the city's: use --agreed or --consent, not --purpose")
    if consent_file is not None:
        if agreed:
            raise UsageError("give --consent or --agreed, not both")
        return consents_in(consent_file.read_bytes())
    if not (agreed and notice and controller):
        raise UsageError(
            "nobody is enrolled without their consent: give --consent FILE, or --agreed with"
            " --notice and --controller"
        )
    return consents_to(
        agreed,
        controller=controller,
        text_version=notice,
        language=language,
        guardian=guardian,
        days=days,
        now_ms=known_ms(SystemClock().now()),
    )


def _at_the_city(
    desk: LocalDesk,
    gallery: Gallery,
    enrollee: Enrollee,
    consents: tuple[Consent, ...],
    pack: str,
) -> None:
    from agent.base.events import Place
    from agent.device.clock import SystemClock
    from agent.usecases.enrolling import enroll_for_city

    place = desk.settings.place
    with desk.journal_to_write() as journal:
        enroll_for_city(
            gallery,
            journal,
            enrollee,
            consents,
            device=desk.settings.device.name,
            place=Place(place.kind, place.name, place.door),
            moment=SystemClock().now(),
            pack=pack,
            audit=desk.audit,
            actor=operator(),
        )
