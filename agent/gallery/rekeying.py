"""Changes of key inside the gallery: which template map is in use, another map, another wrapping.

Every function works inside a transaction that the gallery holds; what does not open is left as it
is, and counts as damaged before and after alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sqlite_utils import Database

from agent.base.errors import GalleryError
from agent.base.values import PURPOSES
from agent.gallery.file.rows import seals_by_slot
from agent.gallery.file.sealing import GallerySealer, PersonSeal
from agent.keys.ring import KeyRing
from agent.recognition.protection import Matrix, Protection, change

ROWS_AT_ONCE = 2048
MOST_VERSIONS = 1000  # looked for where the record of the version is damaged
SAMPLED_ROWS = 20

Progress = Callable[[int, int], None]


def protection_of(ring: KeyRing, domain: str, version: int) -> Protection:
    """The map of *domain* in its *version*, from the keys of *ring*."""
    return Protection(ring.template_key(domain, version), domain, version)


def is_map(sealer: GallerySealer, sealed: object) -> bool:
    """Whether *sealed* is a record of the map in use that opens."""
    return sealer.open_map(sealed) is not None


def read_map(
    ring: KeyRing, sealer: GallerySealer, sealed: object, domain: str | None
) -> Protection:
    """The map that the gallery's record *sealed* names; it must be of *domain* unless None.

    Raises GalleryError if it is another domain's, does not open, or names a key *ring* lacks.
    """
    text = sealer.open_map(sealed)
    if text is None:
        raise GalleryError(
            "the record of its template key was damaged just now; run: kaopass gallery verify"
        )
    kind, version, check = text.split(" ")
    if domain not in (None, kind):
        raise GalleryError(
            f"it is protected under the template key of {kind!r}, but this device is a {domain!r}"
            " (place.kind); run: kaopass gallery rekey"
        )
    found = protection_of(ring, kind, int(version))
    if found.check != check:
        raise GalleryError(
            f"its templates are under another template key ({found.name}) than this device has;"
            " restore the device key and keys.carried from one backup, or move the gallery away"
            " and enrol everybody again"
        )
    return found


def sealed_map(sealer: GallerySealer, protection: Protection) -> bytes:
    """The record of which map is in use."""
    return sealer.seal_map(f"{protection.name} {protection.check}")


def find_map(db: Database, ring: KeyRing, sealer: GallerySealer, domain: str) -> Protection:
    """The map in use where its record is lost: the one whose name opens a template.

    The first of *domain* where there is none to try, or none opens.
    """
    seals = seals_by_slot(db, sealer)
    query = "SELECT ref, pack, sealed FROM template LIMIT ?"
    for ref, pack, sealed in db.execute(query, [SAMPLED_ROWS]).fetchall():
        if ref not in seals:
            continue
        for version in range(1, MOST_VERSIONS + 1):
            for kind in PURPOSES:
                if seals[ref].open_template(pack, f"{kind} {version}", sealed) is not None:
                    return protection_of(ring, kind, version)
    return protection_of(ring, domain, 1)


def remap(
    db: Database, sealer: GallerySealer, old: Protection, new: Protection, progress: Progress
) -> int:
    """Rotate every template from *old* to *new*; how many. *progress* hears (done, of)."""
    seals = seals_by_slot(db, sealer)
    total = int(db.execute("SELECT COUNT(*) FROM template").fetchone()[0])
    matrices: dict[int, Matrix] = {}
    done = seen = last = 0
    query = "SELECT id, ref, pack, sealed FROM template WHERE id > ? ORDER BY id LIMIT ?"
    while rows := db.execute(query, [last, ROWS_AT_ONCE]).fetchall():
        last = rows[-1][0]
        by_size: dict[int, list[tuple[int, PersonSeal, str, bytes]]] = {}
        for number, ref, pack, sealed in rows:
            seal = seals.get(ref)
            opened = seal.open_template(pack, old.name, sealed) if seal is not None else None
            if seal is not None and opened is not None:
                by_size.setdefault(len(opened) // 4, []).append((number, seal, pack, opened))
        for values, found in by_size.items():
            if values not in matrices:
                matrices[values] = change(old, new, values)
            # In float64: rounding to float32 afterwards is the only loss, however often.
            plain = np.frombuffer(b"".join(row[3] for row in found), "<f4").reshape(-1, values)
            turned = (plain.astype(np.float64) @ matrices[values]).astype("<f4")
            db.conn.executemany(
                "UPDATE template SET sealed = ? WHERE id = ?",
                [
                    (seal.seal_template(pack, new.name, row.tobytes()), number)
                    for (number, seal, pack, _), row in zip(found, turned, strict=True)
                ],
            )
            done += len(found)
        seen += len(rows)
        progress(seen, total)
    return done


def rewrap(db: Database, old: GallerySealer, new: GallerySealer) -> int:
    """Wrap every person's key by *new* instead of *old*; how many."""
    changed: list[tuple[Any, ...]] = []
    for ref, wrapped in db.execute("SELECT ref, wrapped_key FROM person").fetchall():
        again = old.rewrap(ref, wrapped, new) if isinstance(ref, bytes) else None
        if again is not None:
            changed.append((again, ref))
    db.conn.executemany("UPDATE person SET wrapped_key = ? WHERE ref = ?", changed)
    return len(changed)
