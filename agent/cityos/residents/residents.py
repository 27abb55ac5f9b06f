"""The town's residents: enrolled, changed and handed out, each in one transaction."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Row, delete, func, select, update

from agent.base.errors import CityError, UsageError
from agent.base.values import PURPOSES, Vector
from agent.cityos.db.database import errors_named, insert_for, writing
from agent.cityos.db.schema import EVENT, RESIDENT, TEMPLATE
from agent.cityos.keys.townkeys import OWN_DOMAIN, TownKeys
from agent.cityos.residents.profiles import Given, Profile, Resident, Seal
from agent.protocol.galleries.records import canonical_id
from agent.recognition.person import check_words
from agent.recognition.protection import Protection

_CHUNK = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Newcomer:
    """Somebody to enrol; ``templates`` are float32 (n, d) by pack, mapped by ``Residents.own``."""

    id: str
    nickname: str
    templates: Mapping[str, Vector] = field(repr=False)
    consents: tuple[Given, ...]


class Residents:
    """Owner of the residents' tables. Every method is one transaction; raises CityError."""

    def __init__(self, engine: Engine, keys: TownKeys) -> None:
        """*engine* is ``database.open_engine``'s; closing it is the caller's."""
        self.engine = engine
        self._writes = writing(engine)
        self._insert = insert_for(engine)
        self.keys = keys
        if keys.never_held():
            self._refuse_lost_keys()
        self.own = Protection(keys.template_key(OWN_DOMAIN, 1), OWN_DOMAIN, 1)

    def _refuse_lost_keys(self) -> None:
        with self.reading() as db:
            count = db.execute(select(func.count()).select_from(RESIDENT)).scalar_one()
        if count:
            raise CityError(
                f"{self.keys.path} is new, but the database holds {count} residents: their keys"
                " are lost, or elsewhere, and without them everybody would be taken off every"
                " device. Stop city serve, move this file away, and put the keys back from their"
                " copy: kaopass city keys restore FILE"
            )

    def add(self, newcomers: Sequence[Newcomer], now_ms: int) -> None:
        """Enrol *newcomers*; who is there already is UsageError, and then nobody is enrolled."""
        refs = [self.keys.ref(newcomer.id) for newcomer in newcomers]
        for newcomer in newcomers:
            check_words(newcomer.id, newcomer.nickname, PURPOSES)
        keys = self.keys.new_residents(refs)
        rows, templates = [], []
        for ref, newcomer in zip(refs, newcomers, strict=True):
            seal = Seal(keys[ref], ref)
            profile = Profile(
                canonical_id(newcomer.id), newcomer.nickname, now_ms, newcomer.consents
            )
            rows.append(self._row(ref, seal, profile, 1, now_ms))
            templates += self._template_rows(ref, seal, newcomer.templates)
        with self.writing("residents cannot be enrolled") as db:
            there = select(func.count()).where(RESIDENT.c.ref.in_(refs))
            if len(set(refs)) < len(refs) or db.execute(there).scalar_one():
                raise UsageError("somebody with this id is enrolled already: see resident list")
            db.execute(RESIDENT.insert(), rows)
            if templates:
                db.execute(TEMPLATE.insert(), templates)

    def replace_templates(self, person_id: str, templates: Mapping[str, Vector]) -> None:
        """Put *templates*, mapped by ``own``, in the place of those of the same packs."""
        ref, seal = self._sealed(person_id)
        rows = self._template_rows(ref, seal, templates)
        with self.writing("templates cannot be kept") as db:
            self._held(db, ref, person_id)
            packs = TEMPLATE.c.pack.in_(templates)
            db.execute(delete(TEMPLATE).where(TEMPLATE.c.ref == ref, packs))
            db.execute(TEMPLATE.insert(), rows)
            changed = update(RESIDENT).where(RESIDENT.c.ref == ref)
            db.execute(changed.values(revision=RESIDENT.c.revision + 1))

    def change(self, person_id: str, change: Callable[[Profile], Profile], now_ms: int) -> Profile:
        """Put ``change(profile)`` in the profile's place; what it is now."""
        ref, seal = self._sealed(person_id)
        with self.writing("the resident cannot be changed") as db:
            row = self._held(db, ref, person_id)
            profile = change(seal.open_profile(row.profile))
            values = self._row(ref, seal, profile, row.revision + 1, now_ms)
            db.execute(update(RESIDENT).where(RESIDENT.c.ref == ref).values(values))
        return profile

    def withdraw(self, person_id: str, purpose: str, now_ms: int) -> Profile:
        """Withdraw every consent to *purpose*; a database restored later does not undo it."""
        self.keys.withdrew(self.keys.ref(person_id), purpose, now_ms)
        return self.change(person_id, lambda profile: profile.without(purpose, now_ms), now_ms)

    def get(self, person_id: str) -> Resident:
        """Raises CityError if nobody of that id is enrolled."""
        ref, seal = self._sealed(person_id)
        with self.reading() as db:
            row = db.execute(select(RESIDENT).where(RESIDENT.c.ref == ref)).one_or_none()
            if row is None:
                raise _unknown(person_id)
            counts = select(TEMPLATE.c.pack, TEMPLATE.c.row_count).where(TEMPLATE.c.ref == ref)
            found = {row.pack: row.row_count for row in db.execute(counts).all()}
        profile = seal.open_profile(row.profile).heeding(ref, self.keys.withdrawals())
        return Resident(ref, profile, row.revision, found)

    def exists(self, person_id: str) -> bool:
        """Whether somebody of that id is enrolled."""
        with self.reading() as db:
            wanted = select(RESIDENT.c.ref).where(RESIDENT.c.ref == self.keys.ref(person_id))
            return db.execute(wanted).one_or_none() is not None

    def all(self) -> Iterator[Resident]:
        """Every resident, by reference: in no order that means anything."""
        keys, withdrawals = self.keys.residents(), self.keys.withdrawals()
        with self.reading() as db:
            counts: dict[bytes, dict[str, int]] = {}
            wanted = select(TEMPLATE.c.ref, TEMPLATE.c.pack, TEMPLATE.c.row_count)
            for ref, pack, count in db.execute(wanted).all():
                counts.setdefault(bytes(ref), {})[pack] = count
            for row in db.execute(select(RESIDENT).order_by(RESIDENT.c.ref)).all():
                ref = bytes(row.ref)
                if ref in keys:
                    profile = Seal(keys[ref], ref).open_profile(row.profile)
                    told = counts.get(ref, {})
                    yield Resident(ref, profile.heeding(ref, withdrawals), row.revision, told)

    def templates(self, pack: str) -> Iterator[tuple[bytes, Vector]]:
        """(reference, float32 (n, d) mapped by ``own``) of everybody who has some of *pack*."""
        keys = self.keys.residents()
        last = b""
        while True:
            wanted = select(TEMPLATE).where(TEMPLATE.c.pack == pack, TEMPLATE.c.ref > last)
            with self.reading() as db:
                rows = db.execute(wanted.order_by(TEMPLATE.c.ref).limit(_CHUNK)).all()
            for row in rows:
                last = bytes(row.ref)
                if last in keys:
                    seal = Seal(keys[last], last)
                    yield last, seal.open_templates(pack, row.row_count, row.rows)
            if not rows:
                return

    def pseudonyms(self, person_id: str) -> dict[str, str]:
        """What events may call them, by purpose: 64 hexadecimal digits each."""
        # The device's own way (agent.keys.pseudonym), by the keys that the city gave it.
        return {
            name: hmac.digest(
                self.keys.pseudonym_key(name), canonical_id(person_id).encode(), "sha256"
            ).hex()
            for name in (*PURPOSES, "linked")
        }

    def events(self, person_id: str) -> list[dict[str, Any]]:
        """Every event of theirs that the city has, as ``Store.events`` shows them."""
        people = list(self.pseudonyms(person_id).values())
        wanted = select(EVENT).where(EVENT.c.person.in_(people))
        with self.reading() as db:
            rows = db.execute(wanted.order_by(EVENT.c.received_ms, EVENT.c.device, EVENT.c.seq))
            return [dict(row._mapping) for row in rows.all()]

    def _row(
        self, ref: bytes, seal: Seal, profile: Profile, revision: int, now_ms: int
    ) -> dict[str, Any]:
        sealed, ends_ms = seal.seal_profile(profile), profile.next_ms(now_ms)
        return {"ref": ref, "profile": sealed, "revision": revision, "next_ms": ends_ms}

    def _template_rows(
        self, ref: bytes, seal: Seal, templates: Mapping[str, Vector]
    ) -> list[dict[str, Any]]:
        return [
            {
                **{"ref": ref, "pack": pack, "row_count": len(rows)},
                "rows": seal.seal_templates(pack, np.atleast_2d(rows)),
            }
            for pack, rows in templates.items()
        ]

    def _sealed(self, person_id: str) -> tuple[bytes, Seal]:
        ref = self.keys.ref(person_id)
        key = self.keys.resident(ref)
        if key is None:
            raise _unknown(person_id)
        return ref, Seal(key, ref)

    def _held(self, db: Connection, ref: bytes, person_id: str) -> Row[Any]:
        held = select(RESIDENT).where(RESIDENT.c.ref == ref).with_for_update()
        row = db.execute(held).one_or_none()
        if row is None:
            raise _unknown(person_id)
        return row

    @contextmanager
    def writing(self, trouble: str) -> Iterator[Connection]:
        """A transaction that writes; *trouble* begins the CityError of one that fails."""
        with errors_named(self.engine, trouble), self._writes.begin() as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads."""
        with errors_named(self.engine, "it cannot be read"), self.engine.connect() as db:
            yield db


def _unknown(person_id: str) -> CityError:
    return CityError(f"nobody is enrolled as {person_id!r}: see kaopass city resident list")
