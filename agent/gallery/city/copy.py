"""The city's version of the gallery on this device: staged bucket by bucket, then in force at once.

Residents of a new version are sealed for this device and laid ready, each with a key of their own;
one transaction then moves their small rows and writes down which signed version this is. Cut
anywhere, the gallery is one whole version, and what was staged is still there. Templates nobody
points at any more are noise without their key, and are overwritten afterwards (``sweep``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict

from agent.base.errors import GalleryError
from agent.gallery.city.arriving import Prepared, Preparer, Staged
from agent.gallery.city.meta import (
    CITY,
    KEYS,
    CityVersion,
    forget_bucket,
    forget_staged,
    lapse_provisional,
    read_keys,
    read_version,
    read_withheld,
    write_withheld,
)
from agent.gallery.file.opening import has_set_aside, remove_set_aside
from agent.gallery.file.rows import (
    opened_people,
    opened_profile,
    seals_by_slot,
    slot_of,
)
from agent.gallery.file.store import GalleryStore
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.galleries.records import bucket_digests, key_of, root_of
from agent.protocol.hpke import encode_keys
from agent.recognition.protection import Protection

SWEPT_ROWS = 2_000  # in one transaction, so that nobody waits long for it
_REF_BYTES = 32


class CityCopy:
    """What this device holds of the city's *gallery*, "bus" or "hall". One thread uses it."""

    def __init__(self, store: GalleryStore, gallery: str) -> None:
        self._store = store
        self._gallery = gallery
        self._seen: int | None = None  # the gallery's version that the following was read at
        self._entries: dict[bytes, bytes] = {}  # key -> reference, and digest of who is whole
        self._waiting: set[bytes] = set()  # keys of who was enrolled here and is not published
        self._withheld: dict[bytes, bytes] = {}
        self._preparer = Preparer(gallery)
        self._littered = True  # a process before this one may have left templates of nobody

    @property
    def version(self) -> CityVersion | None:
        """The version in force; None before the first of this gallery."""
        with self._store.reading():
            return self._version()

    @property
    def keys(self) -> GalleryKeys | None:
        """The keys of the gallery; None where there are none yet."""
        with self._store.reading():
            return read_keys(self._store)

    def keep_keys(self, keys: GalleryKeys) -> None:
        """Seal *keys* in the gallery; those before them are overwritten. Raises GalleryError."""
        with self._store.writing():
            self._store.seal_meta(KEYS, encode_keys(keys))
        with self._store.errors_named():
            self._store.overwrite_old_pages()

    def digests(self, *, renewed: bool = True) -> dict[bytes, bytes]:
        """The record digest of every resident who is here whole, by key.

        Whoever was enrolled here anew counts with their record, unless *renewed* is False.
        Raises GalleryError when the disk fails.
        """
        if self._store.version != self._seen:
            with self._store.reading():
                self._read()
        found = self._digests()
        return found if renewed else {k: d for k, d in found.items() if k not in self._waiting}

    @property
    def stale(self) -> bool:
        """Whether others changed the gallery since ``digests`` were read."""
        return self._store.version != self._seen

    @property
    def root(self) -> str:
        """The root over everybody who is here whole."""
        return root_of(bucket_digests(self.digests()))

    def extend(self, version: CityVersion) -> None:
        """The version in force was signed anew: another end. Raises GalleryError."""
        with self._store.writing(told=False):
            self._store.seal_meta(CITY, json.dumps(asdict(version)).encode())

    def staged(self) -> dict[int, bytes]:
        """The digest of every bucket that lies ready, by number."""
        with self._store.reading():
            return dict(self._store.db.execute("SELECT number, digest FROM staged_bucket"))

    def stage(
        self, number: int, digest: bytes, residents: Sequence[Staged], keys: GalleryKeys
    ) -> None:
        """Lay bucket *number* ready; its templates are mapped by *keys*.

        Raises GalleryError when the disk fails, or the gallery's own map was changed just now.
        """
        prepared, own = self._prepared(residents, keys)
        with self._store.soon_durable(), self._store.writing(told=False):
            self._same_map(own)
            forget_bucket(self._store, number)
            for new in prepared:
                self._store.db.execute(
                    "INSERT OR REPLACE INTO staged VALUES (?, ?, ?, ?, ?)",
                    [new.ref, number, new.slot, new.wrapped_key, new.profile],
                )
                self._insert(new)
            self._store.db.execute("INSERT INTO staged_bucket VALUES (?, ?)", [number, digest])

    def swap(self, version: CityVersion, buckets: Mapping[int, bytes]) -> set[bytes]:
        """Put *version* in force: staged *buckets* (number to digest) replace those here.

        Returns the keys of residents who are gone. Raises GalleryError if it is not *version*
        that came about, if what was staged is gone, or the disk fails; nothing has changed then.
        """
        with self._changing():
            ready = dict(self._store.db.execute("SELECT number, digest FROM staged_bucket"))
            if any(ready.get(number) != digest for number, digest in buckets.items()):
                raise self._fetch_again("is gone")
            newer = self._check_newer(version)
            before = {key for key in (*self._entries, *self._withheld) if key[0] in buckets}
            # What the city said of who was enrolled here is in deltas, which were not heard: of a
            # newer version all is taken as it is. A repair leaves them.
            provisional = {} if newer else self._provisional()
            arrived = self._move(buckets, provisional)
            guests = {key for key, digest in provisional.items() if not digest}
            for key in before - arrived:
                self._withheld.pop(key, None)
            gone = before - arrived - guests
            for key in gone:
                self._delete(key)
            forget_staged(self._store, templates=False)
            self._littered = True
            for ref in self._read(withheld=self._withheld):
                self._store.delete_person(ref)
            # Everybody of this version is whole: of others damage may have left a part.
            rest = {key for key, entry in self._entries.items() if len(entry) == _REF_BYTES}
            for key in rest - guests:
                self._delete(key)
            gone |= rest - guests
            self._conclude(version)
        return gone

    def change(
        self,
        version: CityVersion,
        present: Sequence[Staged],
        gone: Iterable[bytes],
        keys: GalleryKeys,
    ) -> set[bytes]:
        """Put *version* in force by replacing *present* and taking out *gone* (keys).

        Returns the keys of residents who are gone. Raises GalleryError as ``swap`` does.
        """
        prepared, own = self._prepared(present, keys)
        removed = set(gone)
        with self._changing():
            self._same_map(own)
            self._check_newer(version)
            for key in removed:
                self._delete(key)
            for new, item in zip(prepared, present, strict=True):
                key = key_of(item.record.id)
                if key in self._withheld:
                    self._withheld[key] = item.digest
                    continue
                self._store.delete_person(new.ref)
                self._store.db.execute(
                    "INSERT INTO person VALUES (?, ?, ?)", [new.ref, new.wrapped_key, new.profile]
                )
                self._insert(new)
                self._entries[key] = new.ref + item.digest
                self._waiting.discard(key)
            # Somebody who is gone may be in what lay ready of the versions before.
            if forget_staged(self._store, templates=False):
                self._littered = True
            self._conclude(version)
        return removed

    def lapse(self, city_ms: int) -> bool:
        """At *city_ms* of the city's clock: take out whoever was enrolled here and waited in vain.

        Their time begins when the city is heard first after the enrolment. Whether anybody went:
        a resident of the version is then sent anew. Raises GalleryError when the disk fails.
        """
        self.digests()
        gone = bool(self._waiting) and lapse_provisional(self._store, city_ms) > 0
        self._littered = self._littered or gone
        return gone

    def sweep(self) -> None:
        """Overwrite every template that nobody points at any more, and old pages.

        Files set aside after damage go too, once everybody of the version in force is here whole:
        nothing is to be rescued from them then, and whoever is gone since is still in them.
        Raises GalleryError when the disk fails or others still read old pages: call again later.
        """
        aside = has_set_aside(self._store.path)
        if aside:
            self._littered = True  # what lay ready in the damaged file is nobody's in this one
        if self._littered:
            orphans = self._orphans()
            for start in range(0, len(orphans), SWEPT_ROWS):
                with self._store.writing(told=False):
                    self._store.db.conn.executemany(
                        "DELETE FROM template WHERE id = ? AND ref = ?",
                        orphans[start : start + SWEPT_ROWS],
                    )
                with self._store.errors_named():
                    self._store.overwrite_old_pages()
            self._littered = False
        with self._store.errors_named():
            self._store.overwrite_old_pages()
            version = self.version if aside else None
            if version is not None and version.root == self.root:
                remove_set_aside(self._store.path)

    def _orphans(self) -> list[tuple[int, bytes]]:
        with self._store.reading():
            live = set(seals_by_slot(self._store.db, self._store.sealer))
            live |= {row[0] for row in self._store.db.execute("SELECT slot FROM staged")}
            rows = self._store.db.execute("SELECT id, ref FROM template")
            return [row for row in rows if row[1] not in live]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction that begins with what is in the gallery now."""
        try:
            with self._store.writing() as before:
                if before != self._seen:
                    self._read()
                yield
                self._seen = int.from_bytes(self._store.meta("version"), "big")
        except BaseException:
            self._seen = None  # what was read may be of what never came about
            raise

    def _version(self) -> CityVersion | None:
        found = read_version(self._store)
        return found if found is not None and found.gallery == self._gallery else None

    def _read(self, withheld: dict[bytes, bytes] | None = None) -> list[bytes]:
        """Everybody's key, reference and digest, from the profiles that open.

        *withheld* is not written yet, if given. Returns the references of whoever was enrolled
        here before the gallery was the city's, or does not open.
        """
        nobodys = []
        query = "SELECT ref, COUNT(*) FROM template GROUP BY ref"
        counts: dict[bytes, int] = dict(self._store.db.execute(query).fetchall())
        self._entries, self._waiting = {}, set()
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
                    self._waiting.add(key)
            else:
                nobodys.append(ref)
        self._withheld = read_withheld(self._store) if withheld is None else withheld
        seen = self._store.meta("version")
        self._seen = int.from_bytes(seen, "big") if isinstance(seen, bytes) else 0
        return nobodys

    def _provisional(self) -> dict[bytes, bytes]:
        """Key and city digest (empty: none) of whoever was enrolled here and is not published."""
        found = {}
        for _, _, profile in opened_people(self._store.db, self._store.sealer):
            if profile is not None and profile.get("provisional"):
                found[key_of(profile["id"])] = bytes.fromhex(profile.get("digest", ""))
        return found

    def _move(self, numbers: Iterable[int], provisional: Mapping[bytes, bytes]) -> set[bytes]:
        """Staged residents of buckets *numbers* into force; the keys of all of them."""
        arrived = set()
        query = "SELECT ref, wrapped_key, profile FROM staged WHERE number = ?"
        for number in numbers:
            for ref, wrapped, sealed in self._store.db.execute(query, [number]).fetchall():
                seal = self._store.sealer.person(ref, wrapped)
                profile = opened_profile(seal, sealed) if seal else None
                if profile is None:
                    raise self._fetch_again("is damaged")
                key, digest = key_of(profile["id"]), bytes.fromhex(profile["digest"])
                arrived.add(key)
                if key in self._withheld:
                    self._withheld[key] = digest
                elif provisional.get(key) != digest:
                    # Else only what was enrolled here differs, which the city does not know yet.
                    self._store.db.execute(
                        "INSERT OR REPLACE INTO person VALUES (?, ?, ?)", [ref, wrapped, sealed]
                    )
        return arrived

    def _fetch_again(self, why: str) -> GalleryError:
        return GalleryError(
            f"gallery {self._store.path}: what lay ready of the city's version {why}; it is"
            " fetched again"
        )

    def _conclude(self, version: CityVersion) -> None:
        """Is this *version*? Then it is in force when the transaction ends."""
        write_withheld(self._store, self._withheld)
        if root_of(bucket_digests(self._digests())) != version.root:
            raise self._fetch_again(f"does not make version {version.version}")
        self._store.seal_meta(CITY, json.dumps(asdict(version)).encode())

    def _digests(self) -> dict[bytes, bytes]:
        found = {k: e[_REF_BYTES:] for k, e in self._entries.items() if len(e) > _REF_BYTES}
        return found | {key: digest for key, digest in self._withheld.items() if digest}

    def _check_newer(self, version: CityVersion) -> bool:
        """Whether *version* is newer than the one in force. Raises GalleryError if it is older."""
        before = self._version()
        if before is not None and version.position < before.position:
            raise GalleryError(
                f"gallery {self._store.path}: holds version {before.version} already, which is"
                f" newer than {version.version}"
            )
        return before is None or version.position > before.position

    def _same_map(self, own: Protection) -> None:
        if self._store.map_in_use().name != own.name:
            raise GalleryError(
                f"gallery {self._store.path} was given another template key meanwhile; the city's"
                " version is prepared again"
            )

    def _delete(self, key: bytes) -> None:
        self._withheld.pop(key, None)
        self._waiting.discard(key)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._store.delete_person(entry[:_REF_BYTES])

    def _insert(self, new: Prepared) -> None:
        self._store.db.conn.executemany(
            "INSERT INTO template (ref, pack, sealed) VALUES (?, ?, ?)",
            [(new.slot, pack, sealed) for pack, sealed in new.templates],
        )

    def _prepared(
        self, residents: Sequence[Staged], keys: GalleryKeys
    ) -> tuple[list[Prepared], Protection]:
        with self._store.reading():
            own = self._store.map_in_use()
        return self._preparer.prepare(residents, keys, own, self._store.sealer), own
