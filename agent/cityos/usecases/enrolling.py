"""Enrolling residents from templates made at the city's desk: one, or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from agent.base.errors import CityError, ImageError, UsageError
from agent.base.values import PURPOSES, Vector
from agent.cityos.db.database import committing
from agent.cityos.residents.faces import EnrolledFaces
from agent.cityos.residents.profiles import Given, Profile
from agent.cityos.residents.residents import Newcomer
from agent.cityos.usecases.city import OpenCity
from agent.recognition.person import check_words


class FaceUnderOtherIdError(UsageError):
    """This face is enrolled already, under another id."""


class OtherFaceError(UsageError):
    """Under this id another face is enrolled."""


@dataclass(frozen=True, slots=True)
class Imported:
    """How many were enrolled, were there before; and why others were refused, by their id."""

    enrolled: int
    before: int
    refused: Mapping[str, str]


def enrol(city: OpenCity, faces: EnrolledFaces, newcomer: Newcomer, now_ms: int) -> None:
    """Enrol *newcomer*, whose templates are plain embeddings; one who is enrolled gets the new
    templates instead of the old, and the consents beside those there are.

    Raises UsageError if their face is enrolled under another id, or the id is another's.
    """
    newcomer = replace(
        newcomer,
        templates={
            pack: city.residents.own.apply(rows) for pack, rows in newcomer.templates.items()
        },
    )

    def renewed(profile: Profile) -> Profile:
        consents = (*profile.consents, *newcomer.consents)
        return replace(profile, nickname=newcomer.nickname or profile.nickname, consents=consents)

    with city.keys.enrolling():
        known = check(city, faces, newcomer)
        with city.act() as note, committing(city.engine, "residents cannot be enrolled") as db:
            note("resident.enrolled", subject=newcomer.id, consents=len(newcomer.consents))
            put(db, city, newcomer, renewed if known else None, now_ms)


def enrol_many(
    city: OpenCity,
    faces: EnrolledFaces,
    people: Iterable[tuple[str, Callable[[], Mapping[str, Vector]]]],
    consents: tuple[Given, ...],
    now_ms: Callable[[], int],
) -> Imported:
    """Enrol *people*: (id, what makes their embeddings by pack) each, all with the same *consents*.

    Who is enrolled already is passed over. Who cannot be, for whatever reason of their own, holds
    up nobody; each is an act of its own.
    """
    enrolled, before, refused = 0, 0, {}
    for person_id, embeddings in people:
        if city.residents.exists(person_id):
            before += 1
            continue
        try:
            enrol(city, faces, Newcomer(person_id, "", embeddings(), consents), now_ms())
            enrolled += 1
        except (ImageError, UsageError, CityError) as error:
            refused[person_id] = str(error)
    return Imported(enrolled, before, refused)


def check(city: OpenCity, faces: EnrolledFaces, newcomer: Newcomer) -> bool:
    """Whether *newcomer* is enrolled already, with this face. Call it within ``keys.enrolling``.

    Raises FaceUnderOtherIdError, OtherFaceError, UsageError for an id or a nickname that cannot be,
    ModelError for an unknown pack.
    """
    check_words(newcomer.id, newcomer.nickname, PURPOSES)
    faces.refresh()
    ref = city.keys.ref(newcomer.id)
    if faces.same_as(newcomer.templates, but=ref) is not None:
        raise FaceUnderOtherIdError(
            f"{newcomer.id}: this face is enrolled already under another id; erase that one first,"
            " or add the pictures to it"
        )
    known = city.keys.resident(ref) is not None and city.residents.exists(newcomer.id)
    if known and not faces.is_same(ref, newcomer.templates):
        raise OtherFaceError(
            f"{newcomer.id}: another face is enrolled under this id; is the id right? If it is,"
            " erase it first: kaopass city resident ID --erase"
        )
    return known


def put(
    db: Connection,
    city: OpenCity,
    newcomer: Newcomer,
    renewed: Callable[[Profile], Profile] | None,
    now_ms: int,
) -> None:
    """Enrol *newcomer*; if they are there, *renewed* makes their new profile."""
    if renewed is None:
        city.residents.add(db, [newcomer], now_ms)
    else:
        city.residents.change(db, newcomer.id, renewed, now_ms, newcomer.templates)
