"""Putting a person into the gallery, within a transaction of its store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.base.values import Vector
from agent.gallery.city.meta import readmit
from agent.gallery.file.rows import LASTING_FIELDS, check_templates, opened_profile, slot_of
from agent.gallery.file.sealing import PersonSeal
from agent.gallery.file.store import GalleryStore


def put_in(
    store: GalleryStore,
    person_id: str,
    facts: Mapping[str, Any],
    templates: Vector,
    *,
    pack: str,
    map_name: str,
    now_ms: int,
) -> None:
    """Give *person_id* the profile *facts* and these *templates* of *pack* instead of theirs.

    What lasts of an older profile stays. ``provisional`` among *facts*: until the city has a word
    on them; everybody else is nobody of the city's any more, who sends their own anew. Raises
    GalleryError for unusable templates.
    """
    check_templates(store.db, pack, templates)
    ref = store.sealer.ref(person_id)
    seal = store.seal_of(ref)
    profile: dict[str, Any] = {"created_ms": now_ms}
    if seal is None:
        # New, or damaged so that nothing of it opens any more: begin afresh.
        seal, wrapped = store.sealer.new_person(ref)
        store.db.execute("DELETE FROM template WHERE ref = ?", [ref])
        store.db.execute("INSERT OR REPLACE INTO person VALUES (?, ?, x'')", [ref, wrapped])
    else:
        # So does the digest of the city's record, which they renew: it is not damage.
        before = opened_profile(seal, store.row_of(ref)[1]) or {}
        profile |= {k: v for k, v in before.items() if k in LASTING_FIELDS}
        _forget_templates(store, slot_of(ref, profile), seal, pack, map_name)
    provisional = facts.get("provisional", False)
    digest = readmit(store, person_id) if provisional else None
    if digest:
        profile["digest"] = digest.hex()
    elif not provisional:
        profile.pop("digest", None)
    slot = slot_of(ref, profile)
    profile |= {"id": person_id, **facts}
    if "digest" in profile:
        profile["rows"] = len(templates) + _rows_in(store, slot)
    store.db.execute(
        "UPDATE person SET profile = ? WHERE ref = ?",
        [seal.seal_profile(json.dumps(profile, ensure_ascii=False).encode()), ref],
    )
    store.db.conn.executemany(
        "INSERT INTO template (ref, pack, sealed) VALUES (?, ?, ?)",
        [
            (slot, pack, seal.seal_template(pack, map_name, row.tobytes()))
            for row in templates.astype("<f4", copy=False)
        ],
    )


def _rows_in(store: GalleryStore, slot: bytes) -> int:
    query = "SELECT COUNT(*) FROM template WHERE ref = ?"
    return int(store.db.execute(query, [slot]).fetchone()[0])


def _forget_templates(
    store: GalleryStore, slot: bytes, seal: PersonSeal, pack: str, map_name: str
) -> None:
    """Delete the person's templates of *pack*, and whatever of other packs is damaged."""
    query = "SELECT id, pack, sealed FROM template WHERE ref = ?"
    for number, other, sealed in store.db.execute(query, [slot]).fetchall():
        if other == pack or seal.open_template(other, map_name, sealed) is None:
            store.db.execute("DELETE FROM template WHERE id = ?", [number])
