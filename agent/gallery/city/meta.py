"""What a gallery keeps of its city beside people: version, keys, who is withheld, what is staged.

Every function works inside a transaction of the store, but ``drop_damaged`` and
``lapse_provisional``, which make their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from agent.base.errors import MessageError
from agent.gallery.file.rows import opened_people, seals_by_slot
from agent.gallery.file.store import GalleryStore
from agent.protocol.galleries.messages import GalleryKeys, Position
from agent.protocol.galleries.records import key_of
from agent.protocol.hpke import decode_keys

CITY, KEYS, WITHHELD = "city", "city_keys", "withheld"
# How long somebody enrolled here is known without a word of the city on them, by its own clock.
WAIT_MS = 7 * 86_400_000
SEALED_META = (CITY, KEYS, WITHHELD)


@dataclass(frozen=True, slots=True)
class CityVersion:
    """The version in force, as its head said: see ``agent.protocol.galleries.messages.Head``."""

    gallery: str
    epoch: int
    version: int
    root: str
    count: int
    expires_ms: int

    @property
    def position(self) -> Position:
        return self.epoch, self.version


def is_citys(store: GalleryStore) -> bool:
    """Whether the city has a hand in this gallery: a version in force, or one on its way."""
    return store.meta(CITY) is not None or store.meta(KEYS) is not None


def read_version(store: GalleryStore) -> CityVersion | None:
    """The city's version in force in *store*, within its transaction."""
    told = store.sealed_meta(CITY)
    return None if told is None else CityVersion(**json.loads(told))


def read_keys(store: GalleryStore) -> GalleryKeys | None:
    """The keys of the city's gallery, within a transaction of *store*."""
    told = store.sealed_meta(KEYS)
    try:
        return None if told is None else decode_keys(told)
    except MessageError:
        return None  # of a later version of this software: they are asked for again


def read_withheld(store: GalleryStore) -> dict[bytes, bytes]:
    """Residents erased here whom the city still has: their record digests by key.

    A digest is empty while no record of them has come: the root knows nothing of them then.
    """
    told = store.sealed_meta(WITHHELD)
    found: dict[str, str] = {} if told is None else json.loads(told)
    return {bytes.fromhex(key): bytes.fromhex(digest) for key, digest in found.items()}


def withhold(store: GalleryStore, key: bytes, digest: bytes) -> None:
    """Keep the resident called *key* from coming back, within a transaction of *store*.

    *digest* is of the city's record of them; empty where it has not come yet.
    """
    withheld = read_withheld(store)
    write_withheld(store, {**withheld, key: digest or withheld.get(key, b"")})


def readmit(store: GalleryStore, person_id: str) -> bytes | None:
    """Resident *person_id* enrols here again: no longer withheld. The digest of their record at
    the city; None if they were not. Within a transaction of *store*."""
    withheld = read_withheld(store)
    digest = withheld.pop(key_of(person_id), None)
    if digest is not None:
        write_withheld(store, withheld)
    return digest


def lapse_provisional(store: GalleryStore, city_ms: int) -> int:
    """Delete whoever was enrolled here and waited too long at *city_ms* of the city's clock.

    How many. The wait of the others begins now, unless it has begun.
    """
    with store.reading():
        begin, over = [], []
        for ref, _, profile in opened_people(store.db, store.sealer):
            if profile is not None and profile.get("provisional"):
                heard_ms = profile.get("heard_ms", city_ms + 1)  # later than now: a clock set back
                if heard_ms > city_ms:
                    begin.append(ref)
                elif city_ms - heard_ms >= WAIT_MS:
                    over.append((ref, heard_ms))
    if begin or over:
        with store.writing(told=bool(over)):
            for ref in begin:
                _update_waiting(store, ref, city_ms)
            for ref, heard_ms in over:
                profile = store.profile_of(ref)
                if profile is not None and profile.get("heard_ms") == heard_ms:
                    store.delete_person(ref)
    return len(over)


def _update_waiting(store: GalleryStore, ref: bytes, city_ms: int) -> None:
    seal, profile = store.seal_of(ref), store.profile_of(ref)
    if seal is not None and profile is not None and profile.get("provisional"):
        told = json.dumps({**profile, "heard_ms": city_ms}, ensure_ascii=False).encode()
        query = "UPDATE person SET profile = ? WHERE ref = ?"
        store.db.execute(query, [seal.seal_profile(told), ref])


def forget_staged(store: GalleryStore, *, templates: bool = True) -> bool:
    """Throw away what lies ready of a version of the city's, within a transaction of *store*.

    Without *templates*, these stay, as nobody's. Whether anybody lay ready.
    """
    if templates:
        store.db.execute("DELETE FROM template WHERE ref IN (SELECT slot FROM staged)")
    found = store.db.execute("DELETE FROM staged").rowcount
    store.db.execute("DELETE FROM staged_bucket")
    return bool(found > 0)


def drop_damaged(store: GalleryStore) -> int:
    """Delete every template and person of a city's gallery that does not open; how many.

    Whoever loses a row is no longer whole, so the next comparison with the city brings them back.
    """
    with store.reading():
        if not is_citys(store):
            return 0
        name = store.map_in_use().name
        seals = seals_by_slot(store.db, store.sealer)
        bad = [
            (row[0],)
            for row in store.db.execute("SELECT id, ref, pack, sealed FROM template")
            if row[1] in seals and seals[row[1]].open_template(row[2], name, row[3]) is None
        ]
        people = opened_people(store.db, store.sealer)
        lost = [(ref,) for ref, _, profile in people if profile is None]
    if bad or lost:
        with store.writing():
            store.db.conn.executemany("DELETE FROM template WHERE id = ?", bad)
            store.db.conn.executemany("DELETE FROM person WHERE ref = ?", lost)
    return len(bad) + len(lost)


def write_withheld(store: GalleryStore, withheld: Mapping[bytes, bytes]) -> None:
    """What ``read_withheld`` will give."""
    told = {key.hex(): digest.hex() for key, digest in withheld.items()}
    store.seal_meta(WITHHELD, json.dumps(told).encode())


def forget_bucket(store: GalleryStore, number: int) -> None:
    """The same for bucket *number* alone."""
    query = "DELETE FROM template WHERE ref IN (SELECT slot FROM staged WHERE number = ?)"
    store.db.execute(query, [number])
    store.db.execute("DELETE FROM staged WHERE number = ?", [number])
    store.db.execute("DELETE FROM staged_bucket WHERE number = ?", [number])
