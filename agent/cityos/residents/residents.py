"""The city's residents as its database has them: enrolled and changed, looked up, handed out."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, delete, func, select, update

from agent.base.errors import CityError, UsageError
from agent.base.values import PURPOSES, Vector
from agent.cityos.db.database import reading
from agent.cityos.db.schema import EVENT, RESIDENT, TEMPLATE
from agent.cityos.keys.townkeys import OWN_DOMAIN, TownKeys
from agent.cityos.residents.profiles import NONCE_BYTES, Given, Profile, Resident, Seal
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
    """Owner of the residents' tables; raises CityError.

    What changes somebody does so on a connection, inside the transaction of whoever calls.
    """

    def __init__(self, engine: Engine, keys: TownKeys) -> None:
        """*engine* is ``database.open_engine``'s; closing it is the caller's."""
        self.engine = engine
        self.keys = keys
        if keys.never_held():
            self._refuse_lost_keys()
        self.own = Protection(keys.template_key(OWN_DOMAIN, 1), OWN_DOMAIN, 1)

    def _refuse_lost_keys(self) -> None:
        with reading(self.engine) as db:
            count = db.execute(select(func.count()).select_from(RESIDENT)).scalar_one()
        if count:
            raise CityError(
                f"{self.keys.path} is new, but the database holds {count} residents: their keys"
                " are lost, or elsewhere, and without them everybody would be taken off every"
                " device. Stop city serve, move this file away, and put the keys back from their"
                " copy: kaopass city keys restore FILE"
            )

    def add(self, db: Connection, newcomers: Sequence[Newcomer], now_ms: int) -> None:
        """Enrol *newcomers*; who is there already is UsageError, and then nobody is enrolled."""
        refs = [self.keys.ref(newcomer.id) for newcomer in newcomers]
        for newcomer in newcomers:
            check_words(newcomer.id, newcomer.nickname, PURPOSES)
        there = select(func.count()).where(RESIDENT.c.ref.in_(refs))
        if len(set(refs)) < len(refs) or db.execute(there).scalar_one():
            raise UsageError("somebody with this id is enrolled already: see resident list")
        keys = self.keys.new_residents(refs)
        rows, templates = [], []
        for ref, newcomer in zip(refs, newcomers, strict=True):
            seal = Seal(keys[ref], ref)
            profile = Profile(
                canonical_id(newcomer.id), newcomer.nickname, now_ms, newcomer.consents
            )
            rows.append(self._row(ref, seal, profile, 1, now_ms))
            templates += self._template_rows(ref, seal, newcomer.templates)
        db.execute(RESIDENT.insert(), rows)
        if templates:
            db.execute(TEMPLATE.insert(), templates)

    def change(
        self,
        db: Connection,
        person_id: str,
        change: Callable[[Profile], Profile],
        now_ms: int,
        templates: Mapping[str, Vector] | None = None,
    ) -> None:
        """Put ``change(profile)`` in the profile's place; *change* may refuse by raising.

        *templates*, mapped by ``own``, come in the place of those of the same packs.
        """
        ref = self.keys.ref(person_id)
        key = self.keys.resident(ref)
        held = select(RESIDENT).where(RESIDENT.c.ref == ref).with_for_update()
        row = db.execute(held).one_or_none()
        if key is None or row is None:
            raise _unknown(person_id)
        seal = Seal(key, ref)
        profile = seal.open_profile(row.profile).heeding(ref, self.keys.withdrawals())
        values = self._row(ref, seal, change(profile), row.revision + 1, now_ms)
        if templates:
            packs = TEMPLATE.c.pack.in_(templates)
            db.execute(delete(TEMPLATE).where(TEMPLATE.c.ref == ref, packs))
            db.execute(TEMPLATE.insert(), self._template_rows(ref, seal, templates))
        db.execute(update(RESIDENT).where(RESIDENT.c.ref == ref).values(values))

    def get(self, person_id: str) -> Resident:
        """Raises CityError if nobody of that id is enrolled."""
        ref = self.keys.ref(person_id)
        key = self.keys.resident(ref)
        with reading(self.engine) as db:
            row = db.execute(select(RESIDENT).where(RESIDENT.c.ref == ref)).one_or_none()
            if key is None or row is None:
                raise _unknown(person_id)
            counts = select(TEMPLATE.c.pack, TEMPLATE.c.row_count).where(TEMPLATE.c.ref == ref)
            found = {row.pack: row.row_count for row in db.execute(counts).all()}
        profile = Seal(key, ref).open_profile(row.profile)
        profile = profile.heeding(ref, self.keys.withdrawals())
        return Resident(ref, profile, row.revision, found)

    def exists(self, person_id: str) -> bool:
        """Whether somebody of that id is enrolled."""
        with reading(self.engine) as db:
            wanted = select(RESIDENT.c.ref).where(RESIDENT.c.ref == self.keys.ref(person_id))
            return db.execute(wanted).one_or_none() is not None

    def all(self) -> Iterator[Resident]:
        """Every resident, by reference: in no order that means anything."""
        keys, withdrawals = self.keys.residents(), self.keys.withdrawals()
        with reading(self.engine) as db:
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

    def states(self) -> dict[bytes, tuple[int, bytes]]:
        """What is another whenever a resident or their templates are, by reference."""
        nonce = func.substr(RESIDENT.c.profile, 1, NONCE_BYTES)  # fresh each time it is sealed
        with reading(self.engine) as db:
            rows = db.execute(select(RESIDENT.c.ref, RESIDENT.c.revision, nonce)).all()
        return {bytes(ref): (revision, bytes(tag)) for ref, revision, tag in rows}

    def templates(
        self, pack: str, refs: Collection[bytes] | None = None
    ) -> Iterator[tuple[bytes, Vector]]:
        """(reference, float32 (n, d) mapped by ``own``) of everybody who has some of *pack*.

        With *refs* only of those.
        """
        keys = self.keys.residents() if refs is None else self.keys.some(sorted(refs))
        wanted = sorted(keys)
        for start in range(0, len(wanted), _CHUNK):
            some = TEMPLATE.c.ref.in_(wanted[start : start + _CHUNK])
            with reading(self.engine) as db:
                rows = db.execute(select(TEMPLATE).where(TEMPLATE.c.pack == pack, some)).all()
            for row in rows:
                ref = bytes(row.ref)
                yield ref, Seal(keys[ref], ref).open_templates(pack, row.row_count, row.rows)

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
        with reading(self.engine) as db:
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


def _unknown(person_id: str) -> CityError:
    return CityError(f"nobody is enrolled as {person_id!r}: see kaopass city resident list")
