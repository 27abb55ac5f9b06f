"""Reading the gallery's rows: open what opens, count what does not, never fail for one bad row.

A person's templates lie in a *slot*: their own reference for who was enrolled here, a random one,
told by their sealed profile, for a resident of the city's version. So a new version's templates
can lie ready beside the old ones, and moving a few small rows brings it into force.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlite_utils import Database

from agent.base.errors import GalleryError
from agent.base.values import Vector
from agent.gallery.file.sealing import OVERHEAD_BYTES, GallerySealer, PersonSeal
from agent.recognition.fusion import Means
from agent.recognition.person import Person
from agent.recognition.templates import TemplateSet

# A template's length weighs its scores (ports.FaceEmbedder.embed_reference); far from 1 it is no
# template but a network's raw output.
LEAST_LENGTH, MOST_LENGTH = 0.8, 1.25
# What of a profile stays when the person is enrolled here anew.
LASTING_FIELDS = ("created_ms", "digest", "slot")


def opened_people(
    db: Database, sealer: GallerySealer
) -> Iterator[tuple[bytes, PersonSeal | None, dict[str, Any] | None]]:
    """Each person's reference, seal and profile; None for what does not open."""
    for ref, wrapped, sealed in db.execute("SELECT ref, wrapped_key, profile FROM person"):
        # A damaged record may hold anything where the reference was.
        seal = sealer.person(ref, wrapped) if isinstance(ref, bytes) else None
        yield ref, seal, None if seal is None else opened_profile(seal, sealed)


def opened_profile(seal: PersonSeal, sealed: object) -> dict[str, Any] | None:
    """The profile as it was sealed, None if it does not open."""
    opened = seal.open_profile(sealed)
    if opened is None:
        return None
    profile: dict[str, Any] = json.loads(opened)
    return profile


def slot_of(ref: bytes, profile: dict[str, Any]) -> bytes:
    """Where the templates of the person at *ref* lie."""
    return bytes.fromhex(profile["slot"]) if "slot" in profile else ref


def seals_by_slot(db: Database, sealer: GallerySealer) -> dict[bytes, PersonSeal]:
    """The seal of everybody whose key opens, by the slot of their templates."""
    return {
        slot_of(ref, profile or {}): seal
        for ref, seal, profile in opened_people(db, sealer)
        if seal is not None
    }


def extras(**fields: Any) -> dict[str, Any]:
    """Those of a profile's *fields* that say something: a profile is kept as short as it can be."""
    return {name: value for name, value in fields.items() if value}


def source_of(profile: dict[str, Any]) -> str:
    """See ``Person.source``."""
    if profile.get("provisional"):
        return "provisional"
    return "city" if "digest" in profile else "device"


def as_person(profile: dict[str, Any], templates: dict[str, int]) -> Person:
    """*profile* as a value; *templates* counts by model pack."""
    return Person(
        id=profile["id"],
        nickname=profile["nickname"],
        purposes=tuple(profile["purposes"]),
        created_ms=profile["created_ms"],
        templates=templates,
        source=source_of(profile),
        linked=profile.get("linked", False),
        expires_ms=profile.get("expires_ms", 0),
    )


def load_templates(
    db: Database,
    sealer: GallerySealer,
    map_name: str,
    pack: str,
    purpose: str | None,
    lacking: str = "",
    *,
    city: bool,
) -> TemplateSet:
    """One template of *pack* for each person enrolled for *purpose* (None: for any).

    With *lacking*, only people without any template of that pack are looked at. Several templates
    of one person are fused (fusion.Means). Those rotated by another map than the one called
    *map_name* count as damaged. With *city* the gallery holds a version of the city's: templates
    of nobody are then ones not in force yet, or no more.
    """
    query = (
        "SELECT ref, COUNT(*) FROM template WHERE pack = ?"
        " AND ref NOT IN (SELECT ref FROM template WHERE pack = ?) GROUP BY ref"
    )
    counts: dict[bytes, int] = dict(db.execute(query, [pack, lacking]).fetchall())
    # Whoever has templates but turns out to have no key or profile.
    damaged = set() if city else set(counts)
    ids: list[str] = []
    seals: dict[bytes, PersonSeal] = {}
    for ref, seal, profile in opened_people(db, sealer):
        if seal is None or profile is None:
            damaged.add(ref)
            continue
        slot = slot_of(ref, profile)
        damaged.discard(slot)
        if slot in counts and (purpose is None or purpose in profile["purposes"]):
            seals[slot] = seal
            ids.append(profile["id"])
    expected = np.array([counts[slot] for slot in seals], np.intp)
    matrix, found = _filled(db, map_name, pack, expected, seals)
    some = found > 0
    if not some.all():
        matrix = matrix[some]
    return TemplateSet(
        matrix=matrix,
        owners=np.arange(len(matrix), dtype=np.int32),
        ids=tuple(person for person, kept in zip(ids, some.tolist(), strict=True) if kept),
        damaged=len(damaged) + int((found < expected).sum()),
    )


def _filled(
    db: Database,
    map_name: str,
    pack: str,
    expected: NDArray[np.intp],
    seals: dict[bytes, PersonSeal],
) -> tuple[Vector, NDArray[np.intp]]:
    """A row a person of *seals*, in that order, and how many of the *expected* rows opened.

    Fused in place: at 25,324 people with three rows each, all of them would be 150 MB.
    """
    number = dict(zip(seals, range(len(seals)), strict=True))
    found = np.zeros(len(seals), np.intp)
    means: Means | None = None
    rows = db.execute("SELECT ref, sealed FROM template NOT INDEXED WHERE pack = ?", [pack])
    for ref, sealed in rows:
        at = number.get(ref)
        if at is None or found[at] == expected[at]:
            continue
        opened = seals[ref].open_template(pack, map_name, sealed)
        if opened is None:
            continue
        if means is None:
            means = Means(len(seals), len(opened) // 4)
        if len(opened) == means.values * 4:
            found[at] += means.add(at, np.frombuffer(opened, "<f4"))
    if means is None:
        return np.zeros((len(seals), 0), np.float32), found
    return means.rows(), found


def packs_left(db: Database, sealer: GallerySealer, pack: str) -> dict[str, int]:
    """How many people have templates of other packs and none of *pack*, by their pack."""
    query = (
        "SELECT DISTINCT ref, pack FROM template"
        " WHERE ref NOT IN (SELECT ref FROM template WHERE pack = ?)"
    )
    others: dict[bytes, list[str]] = {}
    for slot, other in db.execute(query, [pack]):
        others.setdefault(slot, []).append(other)
    left: Counter[str] = Counter()
    if others:
        for ref, _, profile in opened_people(db, sealer):
            if profile is not None:
                left.update(others.get(slot_of(ref, profile), ()))
    return dict(left)


def check_templates(db: Database, pack: str, templates: Vector) -> None:
    """Raises GalleryError unless *templates* can be enrolled beside those of *pack* in *db*."""
    if templates.ndim != 2 or not len(templates) or templates.dtype != np.float32:
        raise GalleryError(
            f"templates are {templates.dtype} {templates.shape}; they must be float32 (n, d)"
        )
    lengths = np.linalg.norm(templates, axis=1)
    if not np.all((lengths >= LEAST_LENGTH) & (lengths <= MOST_LENGTH)):
        raise GalleryError(
            f"templates have lengths {np.round(lengths, 3).tolist()}; each must be"
            f" {LEAST_LENGTH} to {MOST_LENGTH}: the model's output was not normalised, or is"
            " broken"
        )
    # The length most of a few rows have, as any one of them may be damaged.
    row = db.execute(
        "SELECT length(sealed) AS bytes FROM (SELECT sealed FROM template"
        " INDEXED BY template_by_ref WHERE pack = ? LIMIT 9)"
        " WHERE bytes > ? GROUP BY bytes ORDER BY COUNT(*) DESC LIMIT 1",
        [pack, OVERHEAD_BYTES],
    ).fetchone()
    values = (row[0] - OVERHEAD_BYTES) // 4 if row else templates.shape[1]
    if values != templates.shape[1]:
        raise GalleryError(
            f"templates have {templates.shape[1]} values, those enrolled with pack"
            f" {pack!r} have {values}; check the installed model"
        )
