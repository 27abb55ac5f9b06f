"""Consents, one a purpose: given, renewed, withdrawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent.base.audit import Note
from agent.base.errors import CityError, UsageError
from agent.cityos.db.database import committing
from agent.cityos.residents.profiles import Given, Profile
from agent.cityos.usecases.city import OpenCity
from agent.protocol.consent import GUARDIAN_AGE

_TROUBLE = "the resident cannot be changed"


def check_guardian(age: int | None, guardian: bool) -> None:
    """Raises UsageError for somebody too young to consent alone (requirements A2)."""
    if age is not None and age < GUARDIAN_AGE and not guardian:
        raise UsageError(
            f"--age {age}: below {GUARDIAN_AGE} a guardian consents; give --guardian when one has"
        )


def give(
    city: OpenCity, person_id: str, given: Sequence[Given], now_ms: int, *, renewal: bool = False
) -> None:
    """Note that *person_id* consents to what *given* say, after the notices were shown.

    A *renewal* is refused (UsageError) where no consent to its purpose stands.
    """
    with city.act() as note, committing(city.engine, _TROUBLE) as db:

        def added(profile: Profile) -> Profile:
            for each in given if renewal else ():
                if profile.standing(each.consent.purpose, now_ms) is None:
                    raise UsageError(
                        f"{person_id} has no consent to {each.consent.purpose} that could be"
                        " renewed: show the notice, then consent give"
                    )
            _note_all(note, "consent.given", person_id, [each.consent.purpose for each in given])
            return replace(profile, consents=(*profile.consents, *given))

        city.residents.change(db, person_id, added, now_ms)


def withdraw(city: OpenCity, person_id: str, purposes: Sequence[str], now_ms: int) -> None:
    """Withdraw every consent to *purposes*; a database restored later does not undo it.

    Raises CityError if they never consented to one of them: nothing is withdrawn then.
    """
    with city.act() as note, committing(city.engine, _TROUBLE) as db:

        def without(profile: Profile) -> Profile:
            given = {each.consent.purpose for each in profile.consents}
            never = [purpose for purpose in purposes if purpose not in given]
            if never:
                raise CityError(
                    f"{person_id} never consented to {', '.join(never)}: see kaopass city consent"
                    f" show {person_id}; nothing was withdrawn"
                )
            _note_all(note, "consent.withdrawn", person_id, purposes)
            for purpose in purposes:
                city.keys.withdrew(city.keys.ref(person_id), purpose, now_ms)
                profile = profile.without(purpose, now_ms)
            return profile

        city.residents.change(db, person_id, without, now_ms)


def _note_all(note: Note, action: str, person_id: str, purposes: Iterable[str]) -> None:
    for purpose in purposes:
        note(action, subject=person_id, purpose=purpose)
