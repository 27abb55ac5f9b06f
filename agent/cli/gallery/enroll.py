"""``kaopass gallery enroll``: put a person into this device's gallery from pictures or a clip."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import PersonError, UsageError
from agent.cli.common import (
    audit_log,
    counted,
    json_option,
    open_ring,
    operator,
    print_json,
    settings_option,
)
from agent.settings.model import Settings, load

if TYPE_CHECKING:
    from agent.base.values import Vector
    from agent.gallery.gallery import Gallery
    from agent.protocol.consent import Consent


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
    from agent.gallery.gallery import Gallery
    from agent.protocol.galleries.records import canonical_id
    from agent.recognition.person import check_words
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
    ring = open_ring(settings)
    # All refusals come before anything is touched; the plain embeddings stay in memory.
    enrol = enroller(settings, networks, min_images=min_images)
    enrolled = enrol.enrol((file, enrolment_frames(file)) for file in files)
    settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = settings.state_directory / "gallery.db"
    pack, domain = networks.embedder.pack, settings.place.kind
    with Gallery(path, ring, pack, domain=domain) as gallery:
        if consents:
            _at_the_city(
                settings, ring, gallery, person_id, nickname, enrolled.templates, pack, consents
            )
        else:
            templates = gallery.protection.apply(enrolled.templates)
            if not allow_duplicate:
                _refuse_double(settings, gallery, person_id, templates)
            agreed = purposes or ("bus", "hall")
            check_words(person_id, nickname, agreed)
            # First, and after all refusals: nothing is done that cannot be noted.
            audit_log(settings, ring).append(
                "gallery.enrolled",
                actor=operator(),
                subject=canonical_id(person_id),
                templates=len(templates),
            )
            gallery.enroll(person_id, templates, nickname, agreed, now_ms=time.time_ns() // 10**6)
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


def _refuse_double(settings: Settings, gallery: Gallery, person_id: str, templates: Vector) -> None:
    """Raise PersonError if somebody other than *person_id* has this face already.

    *templates* is float32 (n, d), rotated by the gallery's map. Whoever is enrolled with another
    model pack only cannot be compared.
    """
    import numpy as np

    from agent.packs.store import known_packs
    from agent.protocol.galleries.records import canonical_id
    from agent.recognition.matcher import Matcher
    from agent.recognition.rules import ENROLLED_VIEWS, calibration_for, rule_for

    known = gallery.load()
    pack = known_packs(settings.models_directory).pack(settings.models.pack)
    # A template is compared here with templates: both are means of several views.
    rule = rule_for(
        settings.decision, calibration_for(settings, pack), known, views=ENROLLED_VIEWS, looks=1
    )
    matcher = Matcher(known)
    units = (templates / np.linalg.norm(templates, axis=1, keepdims=True)).astype(np.float32)
    own = [name for name in known.ids if canonical_id(name) == canonical_id(person_id)]
    for found in matcher.search(units, matcher.rows_of(own)):
        if found.person is not None and found.similarity >= rule.threshold:
            raise PersonError(
                f"{person_id}: this face is enrolled already as {found.person} (similarity"
                f" {found.similarity:.2f}, threshold {rule.threshold:.2f}). If it is the same"
                f" person, give the pictures to that id: kaopass gallery enroll {found.person}"
                f" FILE..., or take it out first: kaopass gallery revoke {found.person}. If these"
                " are twins or siblings, add --allow-duplicate; the door will then often offer"
                " both of them the usual way"
            )


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
    settings: Settings,
    ring: Any,
    gallery: Gallery,
    person_id: str,
    nickname: str,
    templates: Vector,
    pack: str,
    consents: tuple[Consent, ...],
) -> None:
    from agent.base.events import Place
    from agent.device.clock import SystemClock
    from agent.journal import Journal
    from agent.protocol.galleries.records import canonical_id
    from agent.usecases.enrolling import enroll_for_city

    place = settings.place
    with Journal(
        settings.state_directory / "journal.db",
        ring.journal_key(),
        keep_days=settings.journal.keep_days,
    ) as journal:
        stored = enroll_for_city(
            gallery,
            journal,
            device=settings.device.name,
            place=Place(place.kind, place.name, place.door),
            moment=SystemClock().now(),
            person_id=person_id,
            nickname=nickname,
            templates=templates,
            pack=pack,
            consents=consents,
        )
    audit_log(settings, ring).append(
        "gallery.enrolled",
        actor=operator(),
        subject=canonical_id(person_id),
        event=stored.seq,
    )
