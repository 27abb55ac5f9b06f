"""Enrolments that came from devices: checked like those at the city's own desk, taken or refused.

A device enrols in its gallery's template domain; here the templates are mapped to the city's own.
What is refused, or withdrawn or erased before it was ever published, leaves the device by the next
version of its gallery, which says that the id is gone from it (or who it really is), so that the
device needs no message of another kind.
"""

from __future__ import annotations

import logging
import sqlite3
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from agent.base.audit import Note
from agent.base.errors import AuditError, CityError, MessageError, ModelError, UsageError
from agent.base.values import BUILT_MS, PURPOSES, Vector
from agent.cityos.db.database import committing, reading
from agent.cityos.db.schema import ENROLMENT
from agent.cityos.events import enrolments
from agent.cityos.events.enrolments import REFUSED, TAKEN, Waiting
from agent.cityos.residents.faces import EnrolledFaces, Threshold
from agent.cityos.residents.profiles import Given, Profile
from agent.cityos.residents.residents import Newcomer
from agent.cityos.usecases.city import CityDatabase, OpenCity
from agent.cityos.usecases.enrolling import FaceUnderOtherIdError, OtherFaceError, check, put
from agent.protocol.consent import EnrolmentRecord, open_enrolment
from agent.recognition.protection import Protection, change

log = logging.getLogger(__name__)

_TROUBLE = (SQLAlchemyError, sqlite3.Error, OSError)  # of the city's own: it is tried again
_AT_A_TIME = 50


class _RefusedError(Exception):
    """Carries the reason, one of the words below, out of a check."""


UNREADABLE = "unreadable"  # not for this town's key, or not whole
NO_DEVICE = "device_serves_no_gallery"
OLD_KEY = "unknown_template_key"
NO_CONSENT = "no_consent_to_a_gallery"
BAD_WORDS = "bad_id_or_nickname"
OTHER_FACE = "id_belongs_to_another_face"
OTHER_ID = "face_enrolled_under_another_id"
UNKNOWN_PACK = "unknown_model_pack"  # or templates that are not of its size
ERASED = "erased_since"  # or before, which nobody can tell: a new enrolment is needed
WITHDRAWN = "consent_withdrawn_since"
DEFECT = "unexpected_failure"  # the log says more; enrol again once it is mended


@dataclass(frozen=True, slots=True)
class SettledEnrolment:
    """What became of an enrolment: TAKEN, or REFUSED for a ``reason``."""

    waiting: Waiting
    state: str
    reason: str = ""


def settle_waiting(city: OpenCity, threshold: Threshold, now_ms: int) -> list[SettledEnrolment]:
    """Settle what waits, the oldest first and so many at a time. Raises CityError, AuditError."""
    settled: list[SettledEnrolment] = []
    if not _waiting(city):
        return settled
    faces = EnrolledFaces(city.residents, threshold)
    while len(settled) < _AT_A_TIME:
        # No version is finished meanwhile: it would say that whom a device enrolled just now is
        # gone from it.
        with city.keys.publishing(), city.keys.enrolling():
            waits = _waiting(city)
            if not waits:
                break
            settled.append(_Settling(city, waits[0], faces, now_ms).settle())
    return settled


def listed(database: CityDatabase, state: str | None = None) -> list[dict[str, Any]]:
    """Every enrolment that came, the oldest first, or those in *state*; not what is sealed."""
    columns = (ENROLMENT.c.device, ENROLMENT.c.epoch, ENROLMENT.c.seq)
    told = (ENROLMENT.c.state, ENROLMENT.c.reason, ENROLMENT.c.received_ms)
    wanted = select(*columns, *told).order_by(ENROLMENT.c.received_ms)
    if state is not None:
        wanted = wanted.where(ENROLMENT.c.state == state)
    with reading(database.engine) as db:
        return [dict(row._mapping) for row in db.execute(wanted).all()]


def _waiting(city: OpenCity) -> list[Waiting]:
    with committing(city.engine, "enrolments cannot be read") as db:
        return enrolments.waiting(db, 1)


class _Settling:
    """One enrolment that waits, on its way to being taken or refused."""

    def __init__(self, city: OpenCity, each: Waiting, faces: EnrolledFaces, now_ms: int) -> None:
        self._city = city
        self._each = each
        self._faces = faces
        self._now_ms = now_ms
        self._gallery = city.office.registry.purpose(each.device)
        self._person = ""

    def settle(self) -> SettledEnrolment:
        each, state, reason = self._each, TAKEN, ""
        try:
            self._take()
        except _RefusedError as refused:
            state, reason = REFUSED, str(refused)
        except AuditError:
            raise
        # What fails for this one alone, whatever it is, must not hold up the others for ever.
        except Exception as error:
            if isinstance(error, CityError) and isinstance(error.__cause__, _TROUBLE):
                raise
            state, reason = REFUSED, DEFECT
            # Its text, and the values in its traceback, may be a resident's.
            at = traceback.extract_tb(error.__traceback__)[-1]
            log.error(
                "enrolment %d of %s is set aside: %s at %s:%d",
                *(each.seq, each.device, type(error).__name__, at.name, at.lineno or 0),
            )
        if state == REFUSED:
            with self._act() as (note, db):
                note("enrolment.refused", subject=self._person, device=each.device, reason=reason)
                self._end(db, REFUSED, reason)
        log.info("enrolment %d of %s: %s %s", each.seq, each.device, state, reason)
        return SettledEnrolment(each, state, reason)

    @contextmanager
    def _act(self) -> Iterator[tuple[Note, Connection]]:
        with (
            self._city.act() as note,
            committing(self._city.engine, "an enrolment cannot be settled") as db,
        ):
            yield note, db

    def _end(self, db: Connection, state: str, reason: str = "") -> None:
        each = self._each
        if self._person and self._gallery:  # the device has a copy until it hears what is true
            self._city.eraser.say_again(db, self._gallery, self._person)
        enrolments.settle(db, (each.device, each.epoch), each.seq, state, reason)

    def _take(self) -> None:
        city, device = self._city, self._each.device
        number, enrolment = self._opened()
        record = enrolment.record
        self._person = record.id
        ref = city.keys.ref(record.id)
        if city.keys.is_erased(ref, number):
            raise _RefusedError(ERASED)
        if not self._gallery or device in city.office.registry.banned():
            raise _RefusedError(NO_DEVICE)
        if not any(consent.purpose in PURPOSES for consent in enrolment.consents):
            raise _RefusedError(NO_CONSENT)
        templates = self._mapped(enrolment)
        given = self._still_given(ref, enrolment)
        newcomer = Newcomer(record.id, record.nickname, templates, given)
        try:
            known = check(city, self._faces, newcomer)
        except FaceUnderOtherIdError as error:
            raise _RefusedError(OTHER_ID) from error
        except OtherFaceError as error:
            raise _RefusedError(OTHER_FACE) from error
        except UsageError as error:
            raise _RefusedError(BAD_WORDS) from error
        except ModelError as error:
            raise _RefusedError(UNKNOWN_PACK) from error

        def renewed(profile: Profile) -> Profile:
            there = {each.consent for each in profile.consents if each.withdrawn_ms is None}
            new = tuple(each for each in given if each.consent not in there)
            return replace(profile, nickname=record.nickname, consents=profile.consents + new)

        with self._act() as (note, db):
            note("resident.enrolled", subject=record.id, device=device)
            put(db, city, newcomer, renewed if known else None, self._now_ms)
            self._end(db, TAKEN)

    def _opened(self) -> tuple[int, EnrolmentRecord]:
        """The number of the enrolment key it was sealed to, and what was sealed."""
        for number, key in self._city.keys.enrolment_keys().items():
            try:
                return number, open_enrolment(self._each.sealed, self._each.device, key)
            except MessageError:
                continue  # sealed to a key before this one, perhaps
        raise _RefusedError(UNREADABLE)

    def _still_given(self, ref: bytes, enrolment: EnrolmentRecord) -> tuple[Given, ...]:
        """Their consents but those that were withdrawn since, or may have been.

        A device that knew no time cannot say that a consent is newer than a withdrawal.
        """
        withdrawals = self._city.keys.withdrawals()
        kept = []
        for consent in enrolment.consents:
            at_ms = withdrawals.get((ref, consent.purpose))
            if at_ms is None or consent.given_ms > max(at_ms, BUILT_MS):
                kept.append(Given(consent, self._now_ms, self._each.device))
        if not any(each.consent.purpose in PURPOSES for each in kept):
            raise _RefusedError(WITHDRAWN)
        return tuple(kept)

    def _mapped(self, enrolment: EnrolmentRecord) -> dict[str, Vector]:
        keys, gallery = self._city.keys, self._gallery
        version = enrolment.template_version
        if version > keys.map_version(gallery):
            raise _RefusedError(OLD_KEY)
        theirs = Protection(keys.template_key(gallery, version), gallery, version)
        mapped: dict[str, Vector] = {}
        for pack, rows in enrolment.record.templates.items():
            both = change(theirs, self._city.residents.own, rows.shape[1])
            mapped[pack] = rows @ np.asarray(both, np.float32)
        return mapped
