"""The rows of a gallery's next version: made anew only for residents who changed.

A row holds what devices will get, sealed under the resident's own key, and its digest. It is
written beside those in force (``schema.DRAFT``), a few hundred residents at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sqlalchemy import Engine, Row, and_, insert, or_, select

from agent.cityos.database import writing
from agent.cityos.profiles import Seal, served
from agent.cityos.residents import Residents
from agent.cityos.schema import DRAFT, MEMBER, RESIDENT, TEMPLATE
from agent.identity.protection import Protection, change
from agent.values import Vector
from agent.wire.records import Record, encode_record, key_of, record_digest

Progress = Callable[[int, int], None]  # (residents done, of so many)

_CHUNK = 500


def draft(
    engine: Engine,
    residents: Residents,
    gallery: str,
    version: int,
    now_ms: int,
    progress: Progress,
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
            with writing(engine).begin() as db:
                db.execute(insert(DRAFT), rows)
        progress(min(start + _CHUNK, len(refs)), len(refs))


def _out_of_date(engine: Engine, gallery: str, number: int, now_ms: int) -> list[bytes]:
    mine = and_(MEMBER.c.ref == RESIDENT.c.ref, MEMBER.c.gallery == gallery)
    stale = or_(
        MEMBER.c.ref.is_(None),
        MEMBER.c.revision != RESIDENT.c.revision,
        MEMBER.c.map != number,
        MEMBER.c.next_ms <= now_ms,
    )
    with engine.connect() as db:
        found = db.execute(select(RESIDENT.c.ref).outerjoin(MEMBER, mine).where(stale)).all()
    return [bytes(row.ref) for row in found]


def _rows(engine: Engine, maker: _Maker, gallery: str, refs: list[bytes]) -> list[dict[str, Any]]:
    with engine.connect() as db:
        people = db.execute(select(RESIDENT).where(RESIDENT.c.ref.in_(refs))).all()
        there = select(MEMBER).where(MEMBER.c.gallery == gallery, MEMBER.c.ref.in_(refs))
        before = {bytes(row.ref): row for row in db.execute(there).all()}
        templates: dict[bytes, list[Row[Any]]] = {}
        for row in db.execute(select(TEMPLATE).where(TEMPLATE.c.ref.in_(refs))).all():
            templates.setdefault(bytes(row.ref), []).append(row)
    return [
        maker.row(person, templates.get(bytes(person.ref), []), before.get(bytes(person.ref)))
        for person in people
    ]


class _Maker:
    """Makes one resident's row after the other."""

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

    def row(
        self, person: Row[Any], templates: Iterable[Row[Any]], before: Row[Any] | None
    ) -> dict[str, Any]:
        ref = bytes(person.ref)
        seal = Seal(self._keys[ref], ref)
        profile = seal.open_profile(person.profile).heeding(ref, self._withdrawals)
        wire = key_of(profile.id)
        found = served(profile, self._gallery, self._now_ms)
        row: dict[str, Any] = {
            **{"gallery": self._gallery, "ref": ref, "revision": person.revision},
            **{"map": self._number, "next_ms": profile.next_ms(self._now_ms)},
            **{"wire": seal.seal(wire, "wire"), "bucket": wire[0]},
            **{"version": self._version, "digest": None, "record": None},
        }
        mapped = {each.pack: self._mapped(seal, each) for each in templates}
        if found is None or not mapped:
            if before is None or before.digest is None:
                row["version"] = before.version if before is not None else 0  # not in it, as before
            return row
        encoded = encode_record(
            Record(
                id=profile.id,
                purposes=(self._gallery,),
                nickname=profile.nickname,
                linked=found[1],
                expires_ms=found[0],
                templates=mapped,
            )
        )
        digest = record_digest(encoded)
        if before is not None and before.digest == digest:
            row["version"] = before.version  # devices have exactly this
        row["digest"], row["record"] = digest, seal.seal(encoded, f"record {self._gallery}")
        return row

    def _mapped(self, seal: Seal, row: Row[Any]) -> Vector:
        rows = seal.open_templates(row.pack, row.row_count, row.rows)
        values = rows.shape[1]
        if values not in self._maps:
            both = change(self._own, self._to, values)
            self._maps[values] = np.asarray(both, np.float32)
        mapped: Vector = rows @ self._maps[values]
        return mapped
