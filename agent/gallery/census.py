"""Who changed in the gallery since it was read: so that a large one need not be read again.

Sealing anything anew gives other bytes, so the bytes of a person's row tell whether anything of
theirs changed, without opening it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from agent.base.values import Vector
from agent.gallery.file.rows import opened_profile, slot_of
from agent.gallery.file.sealing import GallerySealer
from agent.recognition.fusion import fused
from agent.recognition.person import Roster
from agent.recognition.templates import TemplateSet

MOST_CHANGED = 1_000  # people; with more, reading everybody is the shorter way


@dataclass(frozen=True, slots=True, eq=False)
class Census:
    """Everybody whose profile opened, ``ids`` and ``stamps`` (uint64) in one order."""

    ids: tuple[str, ...]
    stamps: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Changes:
    """What is different since a census: who of it is ``gone`` or was replaced, and who is new.

    ``damaged`` counts people among the new of whom something does not open.
    """

    gone: frozenset[str]
    templates: TemplateSet
    roster: Roster
    damaged: int


def take_census(db: Database, sealer: GallerySealer) -> tuple[Census, Roster]:
    """Everybody in the gallery, in one look at each person's row."""
    ids: list[str] = []
    stamps: list[int] = []
    told = []
    for ref, wrapped, sealed in db.execute("SELECT ref, wrapped_key, profile FROM person"):
        profile = _opened(sealer, ref, wrapped, sealed)
        if profile is not None:
            ids.append(profile["id"])
            stamps.append(_stamp(wrapped, sealed))
            if any(profile.get(name) for name in ("nickname", "linked", "expires_ms")):
                told.append(_told(profile))
    return Census(tuple(ids), np.array(stamps, np.uint64)), _roster(told)


def changes_since(
    census: Census, db: Database, sealer: GallerySealer, map_name: str, pack: str, purpose: str
) -> Changes | None:
    """What changed since *census*; None if that is too much to be told one by one."""
    known = set(census.stamps.tolist())
    here: set[int] = set()
    new = []
    for ref, wrapped, sealed in db.execute("SELECT ref, wrapped_key, profile FROM person"):
        stamp = _stamp(wrapped, sealed)
        here.add(stamp)
        if stamp not in known:
            new.append((ref, wrapped, sealed))
            if len(new) > MOST_CHANGED:
                return None
    gone = frozenset(
        person
        for person, stamp in zip(census.ids, census.stamps.tolist(), strict=True)
        if stamp not in here
    )
    if len(gone) > MOST_CHANGED:
        return None
    damaged = 0
    found: list[tuple[str, Vector]] = []
    told = []
    for ref, wrapped, sealed in new:
        seal = sealer.person(ref, wrapped) if isinstance(ref, bytes) else None
        profile = opened_profile(seal, sealed) if seal else None
        if seal is None or profile is None:
            damaged += 1
            continue
        told.append(_told(profile))
        query = "SELECT sealed FROM template WHERE ref = ? AND pack = ?"
        rows = db.execute(query, [slot_of(ref, profile), pack]).fetchall()
        opened = [seal.open_template(pack, map_name, row[0]) for row in rows]
        whole = [np.frombuffer(row, "<f4") for row in opened if row is not None]
        damaged += len(whole) < len(opened)
        if whole and purpose in profile["purposes"]:
            found.append((profile["id"], fused(np.stack(whole))))
    return Changes(gone, TemplateSet.build(found), _roster(told), damaged)


def _opened(sealer: GallerySealer, ref: Any, wrapped: Any, sealed: Any) -> dict[str, Any] | None:
    # A damaged record may hold anything where the reference was.
    seal = sealer.person(ref, wrapped) if isinstance(ref, bytes) else None
    return None if seal is None else opened_profile(seal, sealed)


def _stamp(wrapped: object, sealed: object) -> int:
    content = b"".join(part for part in (wrapped, sealed) if isinstance(part, bytes))
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _told(profile: dict[str, Any]) -> tuple[str, str, bool, int]:
    return (
        profile["id"],
        profile["nickname"],
        bool(profile.get("linked")),
        profile.get("expires_ms", 0),
    )


def _roster(people: Iterable[tuple[str, str, bool, int]]) -> Roster:
    nicknames: dict[str, str] = {}
    linked: set[str] = set()
    expires_ms: dict[str, int] = {}
    for person, nickname, is_linked, lapses_ms in people:
        if nickname:
            nicknames[person] = nickname
        if is_linked:
            linked.add(person)
        if lapses_ms:
            expires_ms[person] = lapses_ms
    return Roster(nicknames, frozenset(linked), expires_ms)
