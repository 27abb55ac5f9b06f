"""Opening every row of the gallery, within a transaction of its store."""

from __future__ import annotations

from agent.gallery.city.meta import is_citys
from agent.gallery.file.rows import opened_people, seals_by_slot
from agent.gallery.file.store import GalleryStore
from agent.recognition.person import Verification


def verified(store: GalleryStore) -> Verification:
    """How many people and templates of every pack there are, and how many of them do not open."""
    name = store.map_in_use().name
    people = whole = templates = opened = 0
    for _, _, profile in opened_people(store.db, store.sealer):
        people += 1
        whole += profile is not None
    seals = seals_by_slot(store.db, store.sealer)
    city = is_citys(store)
    for slot, pack, sealed in store.db.execute("SELECT ref, pack, sealed FROM template"):
        seal = seals.get(slot)
        if seal is None and city:
            continue  # of a version on its way in or out: nothing is wrong with it
        templates += 1
        opened += seal is not None and seal.open_template(pack, name, sealed) is not None
    return Verification(people, people - whole, templates, templates - opened)
