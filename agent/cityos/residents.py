"""The town's residents: enrolled, changed, handed out and erased, each in one transaction."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Row, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from agent.cityos.database import insert_for, writing
from agent.cityos.profiles import DAY_MS, Given, Profile, Resident, Seal
from agent.cityos.schema import DRAFT, ERASURE, EVENT, MEMBER, RELEASE, RESIDENT, TEMPLATE
from agent.cityos.townkeys import ENROLMENT_KEY_DAYS, OWN_DOMAIN, TownKeys
from agent.errors import CityError, UsageError
from agent.identity.person import check_words
from agent.identity.protection import Protection
from agent.values import PURPOSES, Vector
from agent.wire.records import canonical_id

GONE_NEXT = -1  # MEMBER.version of who will be gone from the next version
CITY = "city"  # ERASURE.gallery of who was in no gallery
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
        self._engine = engine
        self._writes = writing(engine)
        self._insert = insert_for(engine)
        self.keys = keys
        self.own = Protection(keys.template_key(OWN_DOMAIN, 1), OWN_DOMAIN, 1)
        for ref in keys.condemned():  # a cut came between: what was begun is done
            self._erase(ref, time.time_ns() // 1_000_000)

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
        with self._write("residents cannot be enrolled") as db:
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
        with self._write("templates cannot be kept") as db:
            self._held(db, ref, person_id)
            packs = TEMPLATE.c.pack.in_(templates)
            db.execute(delete(TEMPLATE).where(TEMPLATE.c.ref == ref, packs))
            db.execute(TEMPLATE.insert(), rows)
            changed = update(RESIDENT).where(RESIDENT.c.ref == ref)
            db.execute(changed.values(revision=RESIDENT.c.revision + 1))

    def change(self, person_id: str, change: Callable[[Profile], Profile], now_ms: int) -> Profile:
        """Put ``change(profile)`` in the profile's place; what it is now."""
        ref, seal = self._sealed(person_id)
        with self._write("the resident cannot be changed") as db:
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
        with self._read() as db:
            row = db.execute(select(RESIDENT).where(RESIDENT.c.ref == ref)).one_or_none()
            if row is None:
                raise _unknown(person_id)
            counts = select(TEMPLATE.c.pack, TEMPLATE.c.row_count).where(TEMPLATE.c.ref == ref)
            found = {row.pack: row.row_count for row in db.execute(counts).all()}
        profile = seal.open_profile(row.profile).heeding(ref, self.keys.withdrawals())
        return Resident(ref, profile, row.revision, found)

    def all(self) -> Iterator[Resident]:
        """Every resident, by reference: in no order that means anything."""
        keys, withdrawals = self.keys.residents(), self.keys.withdrawals()
        with self._read() as db:
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
            with self._read() as db:
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
        # The device's own way (agent.journey.pseudonym), by the keys that the city gave it.
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
        with self._read() as db:
            rows = db.execute(wanted.order_by(EVENT.c.received_ms, EVENT.c.device, EVENT.c.seq))
            return [dict(row._mapping) for row in rows.all()]

    def erase(self, person_id: str, now_ms: int) -> str:
        """Destroy their key and everything of theirs; the receipt's number.

        The next version of each gallery that held them says that they are gone.
        """
        self.get(person_id)
        ref = self.keys.ref(person_id)
        people = list(self.pseudonyms(person_id).values())
        self.keys.mark_gone(people, now_ms + ENROLMENT_KEY_DAYS * DAY_MS)
        self.keys.condemn(ref)
        receipt = self._erase(ref, now_ms)
        self.forget_events(now_ms)
        return receipt

    def forget_events(self, now_ms: int) -> int:
        """Make events nobody's that belong to somebody erased: how many; late ones come for weeks.

        The events themselves stay, so that no sequence has a hole and no count changes.
        """
        people = self.keys.gone(now_ms)
        if not people:
            return 0
        key = (EVENT.c.device, EVENT.c.epoch, EVENT.c.seq)
        with self._read() as db:  # looking through all events must not hold up those that come
            theirs = db.execute(select(*key).where(EVENT.c.person.in_(people))).all()
        with self._write("events cannot be made nobody's") as db:
            for row in theirs:
                one = (EVENT.c.device == row.device, EVENT.c.epoch == row.epoch)
                nobody = update(EVENT).where(*one, EVENT.c.seq == row.seq).values(person="")
                db.execute(nobody)
        return len(theirs)

    def without_key(self) -> int:
        """Remove what a restored database brought back of people erased since; how many."""
        keys = self.keys.residents()
        with self._read() as db:
            refs = [bytes(row.ref) for row in db.execute(select(RESIDENT.c.ref)).all()]
        orphans = [ref for ref in refs if ref not in keys]
        with self._write("residents cannot be removed") as db:
            for table in (RESIDENT, TEMPLATE, MEMBER, DRAFT):
                for start in range(0, len(orphans), _CHUNK):
                    some = orphans[start : start + _CHUNK]
                    db.execute(delete(table).where(table.c.ref.in_(some)))
        return len(orphans)

    def _erase(self, ref: bytes, now_ms: int) -> str:
        receipt, stranger = secrets.token_hex(8), secrets.token_bytes(32)
        # Its own key was condemned, so it is taken from where it lies.
        old = self.keys.condemned_key(ref)
        seal = Seal(old, ref) if old is not None else None
        fresh = Seal(self.keys.new_residents([stranger])[stranger], stranger)
        with self._write("the resident cannot be erased") as db:
            held = select(RESIDENT.c.ref).where(RESIDENT.c.ref == ref).with_for_update()
            there = db.execute(held).one_or_none() is not None
            rows = db.execute(select(MEMBER).where(MEMBER.c.ref == ref)).all()
            noted = []
            for row in rows:
                if row.version == 0 or seal is None:
                    continue
                # Devices must still be told who is gone: under a key that goes once they know.
                wire = fresh.seal(seal.open(row.wire, "wire"), "wire")
                was_in = row.digest is not None
                version = GONE_NEXT if was_in else row.version
                tombstone = dict(row._mapping) | {
                    **{"ref": stranger, "version": version, "revision": 0, "bucket": -1},
                    **{"next_ms": None, "wire": wire, "digest": None, "record": None},
                }
                db.execute(MEMBER.insert(), [tombstone])
                noted.append((row.gallery, *self._gone_since(db, row.gallery, was_in, version)))
            for table in (MEMBER, DRAFT, TEMPLATE, RESIDENT):
                db.execute(delete(table).where(table.c.ref == ref))
            noted_rows = [
                {
                    **{"receipt": receipt, "gallery": gallery, "ref": stranger},
                    **{"at_ms": now_ms, "epoch": epoch, "version": version},
                }
                for gallery, epoch, version in noted or [(CITY, 0, 0)]
            ]
            if there:  # else another process has just done it
                db.execute(ERASURE.insert(), noted_rows)
        if not noted:
            self.keys.destroy([stranger])
        self.keys.destroy([ref])
        for gallery, epoch, _ in noted:
            if epoch is None:
                self.keys.new_content(gallery)
        self.keys.new_enrolment(now_ms)
        self.sweep()
        return receipt

    def sweep(self) -> None:
        """Have the database give up what deleted rows leave behind in its files."""
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
                if self._engine.dialect.name == "sqlite":
                    # Deleted bytes were overwritten (secure_delete); older pages are in the log.
                    db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                    return
                for table in (RESIDENT, TEMPLATE, MEMBER, DRAFT, EVENT):
                    db.exec_driver_sql(f"VACUUM {table.name}")
        except SQLAlchemyError as error:
            raise CityError(f"city database: cannot be swept: {error}") from error

    def _gone_since(
        self, db: Connection, gallery: str, was_in: bool, version: int
    ) -> tuple[int | None, int | None]:
        if was_in:
            return None, None  # the next version says when
        epoch = db.execute(select(func.max(RELEASE.c.epoch)).where(RELEASE.c.gallery == gallery))
        return epoch.scalar_one(), version

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
    def _write(self, trouble: str) -> Iterator[Connection]:
        try:
            with self._writes.begin() as db:
                yield db
        except SQLAlchemyError as error:
            raise CityError(f"city database: {trouble}: {_plain(error)}") from error

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as db:
                yield db
        except SQLAlchemyError as error:
            raise CityError(f"city database: cannot be read: {_plain(error)}") from error


def _unknown(person_id: str) -> CityError:
    return CityError(f"nobody is enrolled as {person_id!r}: see kaopass city resident list")


def _plain(error: SQLAlchemyError) -> str:
    """Without the statement's values, which are people's."""
    return str(getattr(error, "orig", None) or type(error).__name__)
