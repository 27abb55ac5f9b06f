"""Taking a person out of the gallery, within a transaction of its store."""

from __future__ import annotations

from agent.gallery.city.meta import forget_staged, is_citys, withhold
from agent.gallery.file.opening import has_set_aside
from agent.gallery.file.rows import opened_people
from agent.gallery.file.store import GalleryStore
from agent.protocol.galleries.records import key_of


def may_hold(store: GalleryStore, person_id: str) -> bool:
    """Whether there is a row of *person_id*, even a damaged one, or a file set aside after damage,
    which nobody has searched."""
    query = "SELECT 1 FROM person WHERE ref = :r UNION SELECT 1 FROM template WHERE ref = :r"
    found = store.db.execute(query, {"r": store.sealer.ref(person_id)}).fetchone()
    return found is not None or has_set_aside(store.path)


def take_out(store: GalleryStore, person_id: str) -> bool:
    """Delete all rows of *person_id*; False if there were none.

    A resident of the city's version is kept from coming back with the next repair.
    """
    forget_staged(store)
    ref = store.sealer.ref(person_id)
    profile = store.profile_of(ref)
    if profile is not None and "digest" in profile:
        withhold(store, key_of(person_id), bytes.fromhex(profile["digest"]))
    return store.delete_person(ref) > 0


def take_out_key(store: GalleryStore, key: bytes) -> list[str]:
    """The same for whoever is called *key* (``records.key_of``); the ids of who was.

    In a city's gallery, a resident who has not come yet is kept from coming, too.
    """
    people = opened_people(store.db, store.sealer)
    ids = [p["id"] for _, _, p in people if p is not None and key_of(p["id"]) == key]
    for person_id in ids:
        take_out(store, person_id)
    if is_citys(store):
        forget_staged(store)
        withhold(store, key, b"")
    return ids
