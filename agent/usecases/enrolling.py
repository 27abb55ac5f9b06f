"""Enrolment at a device whose gallery is the city's: journal first, then provisionally known here.

The consents and the templates go up as an event that only the city can open; the next version of
the gallery with this resident in it takes the place of what was enrolled here.
"""

from __future__ import annotations

from collections.abc import Sequence

from agent.base.audit import AuditLog, audited
from agent.base.errors import GalleryError, MessageError, UsageError
from agent.base.events import EnrolmentEvent, Moment, Place, StoredEvent
from agent.base.ports import EventLog
from agent.base.values import PURPOSES
from agent.gallery.gallery import Gallery
from agent.keys.pseudonym import Pseudonyms
from agent.protocol.consent import (
    CONSENTS,
    Consent,
    EnrolmentRecord,
    seal_enrolment,
)
from agent.protocol.fields import parse
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.galleries.records import Record, canonical_id
from agent.recognition.person import check_words
from agent.recognition.protection import Protection
from agent.usecases.residents import Enrollee

MAX_CONSENT_BYTES = 65_536
CATEGORIES = ("face templates", "identifier", "journeys")
DAY_MS = 86_400_000


def consents_in(content: bytes) -> tuple[Consent, ...]:
    """The consent records of a file: a JSON array, fields as in ``agent.protocol.consent``.

    Raises UsageError saying which field is wrong.
    """
    try:
        told = parse(content, MAX_CONSENT_BYTES, "consents")
        found = CONSENTS.read(told, "consents")
    except MessageError as error:
        raise UsageError(f"these are no consent records: {error}") from error
    if len({consent.purpose for consent in found}) < len(found):
        raise UsageError("these consent records name a purpose twice")
    return found


def consents_to(
    purposes: Sequence[str],
    *,
    controller: str,
    text_version: str,
    language: str,
    guardian: bool,
    days: int,
    now_ms: int | None,
) -> tuple[Consent, ...]:
    """Consent to each of *purposes*, all told in the same notice, valid for *days* (0: until
    withdrawn). *now_ms* is None while no clock is known; then nothing can lapse by it."""
    given_ms = now_ms or 0
    return tuple(
        Consent(
            purpose=purpose,
            controller=controller,
            categories=CATEGORIES,
            recipients=(controller,),
            retention_days=days,
            text_version=text_version,
            language=language,
            given_ms=given_ms,
            expires_ms=given_ms + days * DAY_MS if days and given_ms else 0,
            guardian=guardian,
        )
        for purpose in dict.fromkeys(purposes)
    )


def enroll_for_city(
    gallery: Gallery,
    journal: EventLog,
    enrollee: Enrollee,
    consents: Sequence[Consent],
    *,
    device: str,
    place: Place,
    moment: Moment,
    pack: str,
    audit: AuditLog | None,
    actor: str,
) -> StoredEvent:
    """Enrol *enrollee*, who gave *consents* (their purposes); the event that tells the city.

    *pack* is that of their templates. Raises UsageError without consent to what a gallery is for,
    GalleryError while the city's keys are not here, JournalError when the event cannot be written:
    nothing was enrolled then.
    """
    person_id = canonical_id(enrollee.id)
    agreed = {consent.purpose: consent for consent in consents}
    purposes = tuple(purpose for purpose in PURPOSES if purpose in agreed)
    if not purposes:
        raise UsageError(
            f"{person_id!r} agreed to neither {' nor '.join(PURPOSES)}, so there is nothing they"
            " may be recognised for; record their consent with --agreed or --consent"
        )
    check_words(person_id, enrollee.nickname, purposes)
    keys = gallery.city_keys()
    if keys is None:
        raise GalleryError(
            "the city's keys are not here yet, so nothing can be sealed to it; start the agent and"
            " wait until: kaopass gallery status tells a version"
        )
    linked = "linking" in agreed
    lapses = [agreed[p].expires_ms for p in purposes if agreed[p].expires_ms]
    record = Record(
        person_id,
        purposes,
        enrollee.nickname,
        linked=linked,
        expires_ms=min(lapses, default=0),
        templates={pack: _citys_map(keys, place.kind).apply(enrollee.templates)},
    )
    try:
        sealed = seal_enrolment(
            EnrolmentRecord(record, keys.template_version, tuple(consents)), device, keys.enrolment
        )
    except MessageError as error:
        raise UsageError(str(error)) from error
    pseudonyms = Pseudonyms(lambda name: keys.pseudonyms[name], lambda _person: linked)
    event = EnrolmentEvent(
        place.kind,
        pseudonyms.of(person_id, place.kind),
        place,
        moment,
        sealed,
    )
    with audited(audit, actor) as note:
        note(
            "gallery.enrolled",
            subject=person_id,
            templates=len(enrollee.templates),
            consents=len(consents),
        )
        stored = journal.append(event)
        if place.kind in purposes:
            gallery.enroll(
                person_id,
                gallery.protection.apply(enrollee.templates),
                enrollee.nickname,
                purposes,
                now_ms=moment.wall_ms,
                provisional=True,
                linked=linked,
                expires_ms=record.expires_ms,
            )
    return stored


def _citys_map(keys: GalleryKeys, kind: str) -> Protection:
    return Protection(keys.template, kind, keys.template_version)
