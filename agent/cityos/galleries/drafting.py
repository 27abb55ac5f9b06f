"""The rows of a gallery's next version: made anew only for residents who changed.

A row holds what devices will get, sealed under the resident's own key, and its digest. It is
written beside those in force (``schema.DRAFT``), a few hundred residents at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, Row, and_, insert, or_, select

from agent.base.values import Vector
from agent.cityos.db.database import committing, reading
from agent.cityos.db.schema import DRAFT, MEMBER, RESIDENT, TEMPLATE
from agent.cityos.residents.profiles import Profile, Seal, served
from agent.cityos.residents.residents import Residents
from agent.protocol.galleries.records import (
    Record,
    decode_record,
    encode_record,
    key_of,
    record_digest,
)
from agent.recognition.protection import Protection, change

_CHUNK = 500


def draft(
    engine: Engine,
    residents: Residents,
    gallery: str,
    version: int,
    now_ms: int,
    *,
    restored: bool,
) -> None:
    """Write a draft row for everybody whose row in *gallery* is missing or out of date.

    After the database was *restored* from a copy, that is also whoever withdrew since.
    """
    number = residents.keys.map_version(gallery)
    maker = _Maker(residents, gallery, version, number, now_ms)
    refs = _out_of_date(engine, gallery, number, now_ms)
    if restored:
        withdrew = {ref for ref, _ in residents.keys.withdrawals()}
        refs = [*refs, *sorted(withdrew.difference(refs))]
    for start in range(0, len(refs), _CHUNK):
        rows = _rows(engine, maker, gallery, refs[start : start + _CHUNK])
        if rows:
            with committing(engine, "the gallery cannot be made") as db:
                db.execute(insert(DRAFT), rows)


def _out_of_date(engine: Engine, gallery: str, number: int, now_ms: int) -> list[bytes]:
    mine = and_(MEMBER.c.ref == RESIDENT.c.ref, MEMBER.c.gallery == gallery)
    stale = or_(
        MEMBER.c.ref.is_(None),
        MEMBER.c.revision != RESIDENT.c.revision,
        MEMBER.c.map != number,
        MEMBER.c.next_ms <= now_ms,
    )
    with reading(engine) as db:
        found = db.execute(select(RESIDENT.c.ref).outerjoin(MEMBER, mine).where(stale)).all()
    return [bytes(row.ref) for row in found]


def _rows(engine: Engine, maker: _Maker, gallery: str, refs: list[bytes]) -> list[dict[str, Any]]:
    with reading(engine) as db:
        people = db.execute(select(RESIDENT).where(RESIDENT.c.ref.in_(refs))).all()
        there = select(MEMBER).where(MEMBER.c.gallery == gallery, MEMBER.c.ref.in_(refs))
        before = {bytes(row.ref): row for row in db.execute(there).all()}
        templates: dict[bytes, list[Row[Any]]] = {}
        for row in db.execute(select(TEMPLATE).where(TEMPLATE.c.ref.in_(refs))).all():
            templates.setdefault(bytes(row.ref), []).append(row)
    return maker.rows(people, templates, before)


@dataclass(frozen=True, slots=True, eq=False)
class _Opened:
    """A resident, opened; ``served`` as ``profiles.served`` says."""

    ref: bytes
    seal: Seal
    profile: Profile
    revision: int
    served: tuple[int, bool] | None


class _Maker:
    """Makes the rows of some residents at a time."""

    def __init__(
        self, residents: Residents, gallery: str, version: int, number: int, now_ms: int
    ) -> None:
        keys = residents.keys
        self._gallery = gallery
        self._version = version
        self._number = number
        self._now_ms = now_ms
        self._own = residents.own
        self._to = Protection(keys.template_key(gallery, number), gallery, number)
        self._keys = keys.residents()
        self._withdrawals = keys.withdrawals()
        self._maps: dict[int, Vector] = {}

    def rows(
        self,
        people: Iterable[Row[Any]],
        templates: Mapping[bytes, list[Row[Any]]],
        before: Mapping[bytes, Row[Any]],
    ) -> list[dict[str, Any]]:
        opened = [self._opened(person) for person in people]
        who = {each.ref: each for each in opened if each.served is not None}
        mapped = self._mapped(who, templates)
        return [self._row(each, mapped.get(each.ref, {}), before.get(each.ref)) for each in opened]

    def _opened(self, person: Row[Any]) -> _Opened:
        ref = bytes(person.ref)
        seal = Seal(self._keys[ref], ref)
        profile = seal.open_profile(person.profile).heeding(ref, self._withdrawals)
        found = served(profile, self._gallery, self._now_ms)
        return _Opened(ref, seal, profile, person.revision, found)

    def _row(
        self, person: _Opened, mapped: Mapping[str, Vector], before: Row[Any] | None
    ) -> dict[str, Any]:
        profile, seal = person.profile, person.seal
        wire = key_of(profile.id)
        row: dict[str, Any] = {
            **{"gallery": self._gallery, "ref": person.ref, "revision": person.revision},
            **{"map": self._number, "next_ms": profile.next_ms(self._now_ms)},
            **{"wire": seal.seal(wire, "wire"), "bucket": wire[0]},
            **{"version": self._version, "digest": None, "record": None},
        }
        if person.served is None or not mapped:
            if before is None or before.digest is None:
                row["version"] = before.version if before is not None else 0  # not in it, as before
            return row
        record = Record(
            id=profile.id,
            purposes=(self._gallery,),
            nickname=profile.nickname,
            linked=person.served[1],
            expires_ms=person.served[0],
            templates=mapped,
        )
        what = f"record {self._gallery}"
        if before is not None and self._is_as_before(record, seal, before):
            kept = {"version": before.version, "digest": before.digest}
            return row | kept | {"record": before.record}  # devices have exactly this
        encoded = encode_record(record)
        row["digest"], row["record"] = record_digest(encoded), seal.seal(encoded, what)
        return row

    def _is_as_before(self, record: Record, seal: Seal, before: Row[Any]) -> bool:
        if before.digest is None or before.map != self._number:
            return False
        old = decode_record(seal.open(before.record, f"record {self._gallery}"))
        return _says_the_same(old, record)

    def _mapped(
        self, who: Mapping[bytes, _Opened], templates: Mapping[bytes, list[Row[Any]]]
    ) -> dict[bytes, dict[str, Vector]]:
        """Everybody's templates by pack, mapped in one product a pack: many small ones are slow."""
        by_pack: dict[tuple[str, int], list[tuple[bytes, Vector]]] = {}
        for ref, person in who.items():
            for row in templates.get(ref, ()):
                rows = person.seal.open_templates(row.pack, row.row_count, row.rows)
                by_pack.setdefault((row.pack, rows.shape[1]), []).append((ref, rows))
        mapped: dict[bytes, dict[str, Vector]] = {}
        for (pack, values), found in by_pack.items():
            whole = np.concatenate([rows for _, rows in found]) @ self._map(values)
            start = 0
            for ref, rows in found:
                mapped.setdefault(ref, {})[pack] = whole[start : start + len(rows)]
                start += len(rows)
        return mapped

    def _map(self, values: int) -> Vector:
        if values not in self._maps:
            both = change(self._own, self._to, values)
            self._maps[values] = np.asarray(both, np.float32)
        return self._maps[values]


def _says_the_same(old: Record, new: Record) -> bool:
    """Whether only the last digit of a template differs, as by a processor's way of adding up."""
    words = ("id", "purposes", "nickname", "linked", "expires_ms")
    return (
        all(getattr(old, word) == getattr(new, word) for word in words)
        and old.templates.keys() == new.templates.keys()
        and all(
            rows.shape == new.templates[pack].shape
            and np.allclose(rows, new.templates[pack], rtol=2e-3, atol=2e-4)
            for pack, rows in old.templates.items()
        )
    )
