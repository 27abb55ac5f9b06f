"""Who is known on this device: enrolled, taken out, listed, checked, their templates re-keyed.

Enrolment where the gallery is the city's is ``agent.usecases.enrolling``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from agent.base.audit import AuditLog, audited
from agent.base.errors import PersonError
from agent.base.values import PURPOSES, Vector
from agent.gallery.city.meta import CityVersion
from agent.gallery.file.opening import Salvage
from agent.gallery.gallery import Gallery
from agent.gallery.rekeying import Progress
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.galleries.records import canonical_id
from agent.recognition.calibration import Calibration
from agent.recognition.matcher import Matcher
from agent.recognition.person import Person, Verification, check_words
from agent.recognition.protection import Protection
from agent.recognition.rules import ENROLLED_VIEWS, rule_for
from agent.settings.sections import DecisionSettings


@dataclass(frozen=True, slots=True, eq=False)
class Enrollee:
    """Who is to be enrolled: ``templates`` float32 (n, d), not rotated, of the gallery's pack."""

    id: str
    templates: Vector
    nickname: str = ""
    purposes: tuple[str, ...] = PURPOSES


@dataclass(frozen=True, slots=True)
class SameFace:
    """When two faces count as one: by the threshold the door would have for this gallery."""

    decision: DecisionSettings
    calibration: Calibration


@dataclass(frozen=True, slots=True)
class KnownPeople:
    """Everybody enrolled, by id, and how many have templates of other packs only, by pack."""

    people: tuple[Person, ...]
    to_enrol_again: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GalleryStanding:
    """How many are enrolled, who of them waits for the city's word, and what the city gave."""

    people: int
    provisional: tuple[str, ...]
    version: CityVersion | None
    keys: GalleryKeys | None


@dataclass(frozen=True, slots=True)
class GalleryChecked:
    """What a full check found. ``sent_again``: damaged rows of the city's residents were dropped,
    so that a running agent is sent them anew."""

    found: Verification
    salvaged: Salvage | None
    sent_again: bool

    @property
    def sound(self) -> bool:
        return self.found.sound and self.salvaged is None


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """How many templates are under the template key of ``domain`` in its ``version`` now."""

    templates: int
    domain: str
    version: int

    @property
    def name(self) -> str:
        return f"{self.domain} {self.version}"


def enroll(
    gallery: Gallery,
    enrollee: Enrollee,
    same_face: SameFace | None,
    *,
    audit: AuditLog | None,
    actor: str,
    now_ms: int,
) -> None:
    """Put *enrollee* into this device's own gallery; their former templates are replaced.

    Raises PersonError if somebody else has this face, by *same_face* (None: twins, not asked), and
    what ``Gallery.enroll`` raises. Check and enrolment are one transaction, so that two enrolments
    at once do not give one face two ids.
    """
    check_words(enrollee.id, enrollee.nickname, enrollee.purposes)
    with audited(audit, actor) as note:
        # A large gallery takes seconds to compare with; others need not wait for that.
        seen, templates = gallery.version, _checked(gallery, enrollee, same_face)
        with gallery.one_change() as version:
            if version != seen:
                templates = _checked(gallery, enrollee, same_face)
            note("gallery.enrolled", subject=canonical_id(enrollee.id), templates=len(templates))
            gallery.enroll(
                enrollee.id, templates, enrollee.nickname, enrollee.purposes, now_ms=now_ms
            )


def _checked(gallery: Gallery, enrollee: Enrollee, same_face: SameFace | None) -> Vector:
    """The templates as *gallery* takes them. Raises PersonError if somebody else has this face.

    Whoever is enrolled with another model pack only cannot be compared.
    """
    templates = gallery.protection.apply(enrollee.templates)
    if same_face is None:
        return templates
    known = gallery.load()
    # A template is compared here with templates: both are means of several views.
    rule = rule_for(same_face.decision, same_face.calibration, known, views=ENROLLED_VIEWS, looks=1)
    matcher = Matcher(known)
    units = (templates / np.linalg.norm(templates, axis=1, keepdims=True)).astype(np.float32)
    own = [name for name in known.ids if canonical_id(name) == canonical_id(enrollee.id)]
    for found in matcher.search(units, matcher.rows_of(own)):
        if found.person is not None and found.similarity >= rule.threshold:
            raise PersonError(
                f"{enrollee.id}: this face is enrolled already as {found.person} (similarity"
                f" {found.similarity:.2f}, threshold {rule.threshold:.2f}). If it is the same"
                f" person, give the pictures to that id: kaopass gallery enroll {found.person}"
                f" FILE..., or take it out first: kaopass gallery revoke {found.person}. If these"
                " are twins or siblings, add --allow-duplicate; the door will then often offer"
                " both of them the usual way"
            )
    return templates


def revoke(gallery: Gallery, person_id: str, *, audit: AuditLog | None, actor: str) -> None:
    """Destroy the key and all rows of *person_id*, also in files set aside after damage.

    Raises PersonError when nobody is enrolled by that id, and what ``Gallery.revoke`` raises.
    """
    nobody = PersonError(f"nobody is enrolled as {person_id!r}; see: kaopass gallery list")
    with audited(audit, actor) as note:
        if not gallery.may_hold(person_id):
            raise nobody
        note("gallery.revoked", subject=canonical_id(person_id))
        if not gallery.revoke(person_id):
            raise nobody


def known_people(gallery: Gallery) -> KnownPeople:
    """Who is enrolled."""
    with gallery.one_state():
        return KnownPeople(tuple(gallery.people()), gallery.to_enrol_again())


def standing(gallery: Gallery) -> GalleryStanding:
    """Whose word *gallery* stands on."""
    with gallery.one_state():
        people = gallery.people()
        waiting = tuple(person.id for person in people if person.source == "provisional")
        return GalleryStanding(len(people), waiting, gallery.city_version(), gallery.city_keys())


def verify(gallery: Gallery) -> GalleryChecked:
    """Open every row; what does not open of the city's residents is dropped, to be sent anew.

    The door does the same by itself, so it is nobody's act and has no audit entry.
    """
    found = gallery.verify()
    return GalleryChecked(found, gallery.salvaged, not found.sound and gallery.drop_damaged() > 0)


def rekey(
    gallery: Gallery,
    domain: str,
    *,
    audit: AuditLog | None,
    actor: str,
    progress: Progress = lambda _done, _of: None,
) -> Rekeyed:
    """Rotate every template to a new template key, of *domain*. *progress* hears (done, of).

    Raises what ``Gallery.rekey`` raises.
    """
    with audited(audit, actor) as note:

        def noted(new: Protection, templates: int) -> None:
            note("gallery.rekeyed", domain=new.domain, version=new.version, templates=templates)

        changed = gallery.rekey(domain, progress, before_commit=noted)
        now = gallery.protection
    return Rekeyed(changed, now.domain, now.version)
