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
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from agent.base.audit import AuditLog
from agent.base.errors import CityError, MessageError, ModelError, UsageError
from agent.base.values import BUILT_MS, PURPOSES, Vector
from agent.cityos.db.database import errors_named, writing
from agent.cityos.events import enrolments
from agent.cityos.events.enrolments import REFUSED, TAKEN, Waiting
from agent.cityos.pki.claims import Registry
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.faces import Faces, Threshold
from agent.cityos.residents.profiles import Given, Profile
from agent.cityos.residents.residents import Newcomer, Residents
from agent.protocol.consent import EnrolmentRecord, open_enrolment
from agent.recognition.protection import Protection, change

log = logging.getLogger(__name__)

LOOK_MS = 1_000
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
class EnrollingStatus:
    """Counted since the start."""

    taken: int
    refused: int


class Enrolling:
    """A chore of the galleries' thread; settles what waits. Raises CityError."""

    def __init__(
        self,
        engine: Engine,
        residents: Residents,
        eraser: Eraser,
        registry: Registry,
        threshold: Threshold,
        audit: AuditLog | None,
    ) -> None:
        self._engine = engine
        self._residents = residents
        self._eraser = eraser
        self._registry = registry
        self._threshold = threshold
        self._audit = audit
        self._next_ms = 0
        self._counts: Counter[str] = Counter()

    @property
    def status(self) -> EnrollingStatus:
        return EnrollingStatus(self._counts[TAKEN], self._counts[REFUSED])

    def __call__(self, now_ms: int) -> None:
        if now_ms < self._next_ms:
            return
        self._next_ms = now_ms + LOOK_MS
        waits = self._waiting()
        if not waits:
            return
        # One process at a time: two must not enrol one face under two ids.
        with self._residents.keys.publishing():
            faces = Faces(self._residents, self._threshold)
            for each in self._waiting():
                self._settle(each, faces, now_ms)

    def _settle(self, each: Waiting, faces: Faces, now_ms: int) -> None:
        state, reason, person = TAKEN, "", ""
        gallery = self._registry.purpose(each.device)
        try:
            number, enrolment = self._opened(each)
            person = enrolment.record.id
            if self._residents.keys.is_erased(self._residents.keys.ref(person), number):
                raise _RefusedError(ERASED)
            self._take(each.device, gallery, enrolment, faces, now_ms)
        except _RefusedError as refused:
            state, reason = REFUSED, str(refused)
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
        if person and gallery:  # the device has a copy of its own until it hears what is true
            self._eraser.say_again(gallery, person)
        if self._audit is not None:
            action = "resident.enrolled" if state == TAKEN else "enrolment.refused"
            facts = {"reason": reason} if reason else {}
            self._audit.append(action, subject=person, device=each.device, **facts)
        doing = "an enrolment cannot be settled"
        with errors_named(self._engine, doing), writing(self._engine).begin() as db:
            enrolments.settle(db, (each.device, each.epoch), each.seq, state, reason)
        self._counts[state] += 1
        log.info("enrolment %d of %s: %s %s", each.seq, each.device, state, reason)

    def _opened(self, each: Waiting) -> tuple[int, EnrolmentRecord]:
        """The number of the enrolment key it was sealed to, and what was sealed."""
        for number, key in self._residents.keys.enrolment_keys().items():
            try:
                return number, open_enrolment(each.sealed, each.device, key)
            except MessageError:
                continue  # sealed to a key before this one, perhaps
        raise _RefusedError(UNREADABLE)

    def _take(
        self, device: str, gallery: str, enrolment: EnrolmentRecord, faces: Faces, now_ms: int
    ) -> None:
        record = enrolment.record
        if not gallery or device in self._registry.banned():
            raise _RefusedError(NO_DEVICE)
        if not any(consent.purpose in PURPOSES for consent in enrolment.consents):
            raise _RefusedError(NO_CONSENT)
        templates = self._mapped(gallery, enrolment)
        keys = self._residents.keys
        ref = keys.ref(record.id)
        given = self._still_given(ref, device, enrolment, now_ms)
        try:
            if faces.same_as(templates, but=ref) is not None:
                raise _RefusedError(OTHER_ID)
            if keys.resident(ref) is None or not self._residents.exists(record.id):
                newcomer = Newcomer(record.id, record.nickname, templates, given)
                self._residents.add([newcomer], now_ms)
            elif not faces.is_same(ref, templates):
                raise _RefusedError(OTHER_FACE)
            else:
                self._renew(record.id, record.nickname, templates, given, now_ms)
        except UsageError as error:
            raise _RefusedError(BAD_WORDS) from error
        except ModelError as error:
            raise _RefusedError(UNKNOWN_PACK) from error
        faces.add(ref, templates)

    def _still_given(
        self, ref: bytes, device: str, enrolment: EnrolmentRecord, now_ms: int
    ) -> tuple[Given, ...]:
        """Their consents but those that were withdrawn since, or may have been.

        A device that knew no time cannot say that a consent is newer than a withdrawal.
        """
        withdrawals = self._residents.keys.withdrawals()
        kept = []
        for consent in enrolment.consents:
            at_ms = withdrawals.get((ref, consent.purpose))
            if at_ms is None or consent.given_ms > max(at_ms, BUILT_MS):
                kept.append(Given(consent, now_ms, device))
        if not any(each.consent.purpose in PURPOSES for each in kept):
            raise _RefusedError(WITHDRAWN)
        return tuple(kept)

    def _renew(
        self,
        person_id: str,
        nickname: str,
        templates: dict[str, Vector],
        given: tuple[Given, ...],
        now_ms: int,
    ) -> None:
        self._residents.replace_templates(person_id, templates)

        def renewed(profile: Profile) -> Profile:
            there = {each.consent for each in profile.consents if each.withdrawn_ms is None}
            new = tuple(each for each in given if each.consent not in there)
            return replace(profile, nickname=nickname, consents=profile.consents + new)

        self._residents.change(person_id, renewed, now_ms)

    def _mapped(self, gallery: str, enrolment: EnrolmentRecord) -> dict[str, Vector]:
        keys = self._residents.keys
        version = enrolment.template_version
        if version > keys.map_version(gallery):
            raise _RefusedError(OLD_KEY)
        theirs = Protection(keys.template_key(gallery, version), gallery, version)
        mapped: dict[str, Vector] = {}
        for pack, rows in enrolment.record.templates.items():
            both = change(theirs, self._residents.own, rows.shape[1])
            mapped[pack] = rows @ np.asarray(both, np.float32)
        return mapped

    def _waiting(self) -> list[Waiting]:
        doing = "enrolments cannot be read"
        with errors_named(self._engine, doing), writing(self._engine).begin() as db:
            return enrolments.waiting(db, _AT_A_TIME)
