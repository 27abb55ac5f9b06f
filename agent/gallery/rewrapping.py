"""Putting the gallery under another device key, within a transaction of its store."""

from __future__ import annotations

from agent.base.errors import GalleryError
from agent.gallery import rekeying
from agent.gallery.city.meta import SEALED_META, forget_staged
from agent.gallery.file.sealing import GallerySealer
from agent.gallery.file.store import GalleryStore
from agent.keys.ring import KeyRing
from agent.recognition.protection import Protection


def put_under(store: GalleryStore, ring: KeyRing) -> tuple[int, Protection]:
    """Wrap and seal everything by *ring*: how many people, and the template map in use.

    Raises GalleryError if *ring* does not carry the lasting keys of the one before.
    """
    sealer = GallerySealer(ring)
    now = store.map_in_use()
    kept = rekeying.protection_of(ring, now.domain, now.version)
    if kept.check != now.check or sealer.ref("") != store.sealer.ref(""):
        raise GalleryError(
            f"gallery {store.path}: the new keys do not carry on what must last; nothing was"
            " changed, begin the rotation again"
        )
    forget_staged(store)
    changed = rekeying.rewrap(store.db, store.sealer, sealer)
    for name in SEALED_META:
        value = store.sealed_meta(name)
        if value is not None:
            store.set_meta(name, sealer.seal_meta(name, value))
    store.set_meta("key_check", sealer.key_check())
    store.set_meta("template_map", rekeying.sealed_map(sealer, kept))
    return changed, kept
