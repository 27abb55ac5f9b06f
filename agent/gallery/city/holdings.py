"""Who of the city's gallery is on this device, by key, as last read from the profiles that open."""

from __future__ import annotations

from agent.gallery.city.meta import read_withheld
from agent.gallery.file.rows import opened_people, slot_of
from agent.gallery.file.store import GalleryStore
from agent.protocol.galleries.records import key_of

_REF_BYTES = 32


class Holdings:
    """An index in memory of *store*; one thread uses it, most of it within a transaction."""

    def __init__(self, store: GalleryStore) -> None:
        self._store = store
        self._seen: int | None = None  # the gallery's version that the following was read at
        self._entries: dict[bytes, bytes] = {}  # key -> reference, and digest of who is whole
        self.waiting: set[bytes] = set()  # keys of who was enrolled here and is not published
        self.withheld: dict[bytes, bytes] = {}  # key -> digest of who was erased here

    @property
    def stale(self) -> bool:
        """Whether others changed the gallery since it was read."""
        return self._store.version != self._seen

    @property
    def keys(self) -> set[bytes]:
        """Of everybody who is here, whole or not, or withheld."""
        return {*self._entries, *self.withheld}

    @property
    def parts(self) -> set[bytes]:
        """Keys of those of whom only a part is here."""
        return {key for key, entry in self._entries.items() if len(entry) == _REF_BYTES}

    def digests(self) -> dict[bytes, bytes]:
        """The record digest of everybody who is here whole, or withheld."""
        found = {k: e[_REF_BYTES:] for k, e in self._entries.items() if len(e) > _REF_BYTES}
        return found | {key: digest for key, digest in self.withheld.items() if digest}

    def refresh(self) -> None:
        """Read anew if others changed the gallery, in a transaction of its own."""
        if self.stale:
            with self._store.reading():
                self.read()

    def refresh_within(self, version: int) -> None:
        """The same within the transaction that found the gallery at *version*."""
        if self._seen != version:
            self.read()

    def mark_seen(self) -> None:
        """It knows the gallery as the transaction leaves it."""
        seen = self._store.meta("version")
        self._seen = int.from_bytes(seen, "big") if isinstance(seen, bytes) else 0

    def forget(self) -> None:
        """What was read may be of what never came about."""
        self._seen = None

    def read(self, withheld: dict[bytes, bytes] | None = None) -> list[bytes]:
        """Read everybody. *withheld* is not written yet, if given.

        Returns the references of whoever was enrolled here before the gallery was the city's, or
        does not open.
        """
        nobodys = []
        query = "SELECT ref, COUNT(*) FROM template GROUP BY ref"
        counts: dict[bytes, int] = dict(self._store.db.execute(query).fetchall())
        self._entries, self.waiting = {}, set()
        for ref, _, profile in opened_people(self._store.db, self._store.sealer):
            if profile is None:
                # Whoever it was is sent anew, or is gone.
                nobodys += [ref] if isinstance(ref, bytes) else []
                continue
            whole = counts.get(slot_of(ref, profile), 0) == profile.get("rows")
            digest = bytes.fromhex(profile.get("digest", "")) if whole else b""
            if "digest" in profile or profile.get("provisional"):
                key = key_of(profile["id"])
                self._entries[key] = ref + digest
                if profile.get("provisional"):
                    self.waiting.add(key)
            else:
                nobodys.append(ref)
        self.withheld = read_withheld(self._store) if withheld is None else withheld
        self.mark_seen()
        return nobodys

    def provisional(self) -> dict[bytes, bytes]:
        """Key and city digest (empty: none) of whoever was enrolled here and is not published."""
        found = {}
        for _, _, profile in opened_people(self._store.db, self._store.sealer):
            if profile is not None and profile.get("provisional"):
                found[key_of(profile["id"])] = bytes.fromhex(profile.get("digest", ""))
        return found

    def put(self, key: bytes, ref: bytes, digest: bytes) -> None:
        """Somebody is here whole, as the city has them."""
        self._entries[key] = ref + digest
        self.waiting.discard(key)

    def delete(self, key: bytes) -> None:
        """Take out whoever is called *key*, from the gallery too."""
        self.withheld.pop(key, None)
        self.waiting.discard(key)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._store.delete_person(entry[:_REF_BYTES])
