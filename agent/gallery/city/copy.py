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
from agent.gallery.city.holdings import Holdings
from agent.gallery.city.meta import (
    CITY,
    KEYS,
    CityVersion,
    forget_bucket,
    forget_staged,
    lapse_provisional,
    read_keys,
    read_version,
    write_withheld,
)
from agent.gallery.city.sweeping import Sweeper
from agent.gallery.file.rows import opened_profile
from agent.gallery.file.store import GalleryStore
from agent.protocol.galleries.messages import GalleryKeys
from agent.protocol.galleries.records import bucket_digests, key_of, root_of
from agent.protocol.hpke import encode_keys
from agent.recognition.protection import Protection


class CityCopy:
    """What this device holds of the city's *gallery*, "bus" or "hall". One thread uses it."""

    def __init__(self, store: GalleryStore, gallery: str) -> None:
        self._store = store
        self._gallery = gallery
        self._holdings = Holdings(store)
        self._sweeper = Sweeper(store)
        self._preparer = Preparer(gallery)

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
        self._holdings.refresh()
        found, waiting = self._holdings.digests(), self._holdings.waiting
        return found if renewed else {k: d for k, d in found.items() if k not in waiting}

    @property
    def stale(self) -> bool:
        """Whether others changed the gallery since ``digests`` were read."""
        return self._holdings.stale

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
            held = self._holdings
            before = {key for key in held.keys if key[0] in buckets}
            # What the city said of who was enrolled here is in deltas, which were not heard: of a
            # newer version all is taken as it is. A repair leaves them.
            provisional = {} if newer else held.provisional()
            arrived = self._move(buckets, provisional)
            guests = {key for key, digest in provisional.items() if not digest}
            for key in before - arrived:
                held.withheld.pop(key, None)
            gone = before - arrived - guests
            for key in gone:
                held.delete(key)
            forget_staged(self._store, templates=False)
            self._sweeper.litter()
            for ref in held.read(withheld=held.withheld):
                self._store.delete_person(ref)
            # Everybody of this version is whole: of others damage may have left a part.
            rest = held.parts - guests
            for key in rest:
                held.delete(key)
            gone |= rest
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
            held = self._holdings
            for key in removed:
                held.delete(key)
            for new, item in zip(prepared, present, strict=True):
                key = key_of(item.record.id)
                if key in held.withheld:
                    held.withheld[key] = item.digest
                    continue
                self._store.delete_person(new.ref)
                self._store.db.execute(
                    "INSERT INTO person VALUES (?, ?, ?)", [new.ref, new.wrapped_key, new.profile]
                )
                self._insert(new)
                held.put(key, new.ref, item.digest)
            # Somebody who is gone may be in what lay ready of the versions before.
            if forget_staged(self._store, templates=False):
                self._sweeper.litter()
            self._conclude(version)
        return removed

    def lapse(self, city_ms: int) -> bool:
        """At *city_ms* of the city's clock: take out whoever was enrolled here and waited in vain.

        Their time begins when the city is heard first after the enrolment. Whether anybody went:
        a resident of the version is then sent anew. Raises GalleryError when the disk fails.
        """
        self._holdings.refresh()
        gone = bool(self._holdings.waiting) and lapse_provisional(self._store, city_ms) > 0
        if gone:
            self._sweeper.litter()
        return gone

    def sweep(self) -> None:
        """Overwrite every template that nobody points at any more, and old pages.

        Files set aside after damage go too, once everybody of the version in force is here whole:
        nothing is to be rescued from them then, and whoever is gone since is still in them.
        Raises GalleryError when the disk fails or others still read old pages: call again later.
        """

        def whole() -> bool:
            version = self.version
            return version is not None and version.root == self.root

        self._sweeper.sweep(whole)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction that begins with what is in the gallery now."""
        try:
            with self._store.writing() as before:
                self._holdings.refresh_within(before)
                yield
                self._holdings.mark_seen()
        except BaseException:
            self._holdings.forget()
            raise

    def _version(self) -> CityVersion | None:
        found = read_version(self._store)
        return found if found is not None and found.gallery == self._gallery else None

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
                if key in self._holdings.withheld:
                    self._holdings.withheld[key] = digest
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
        write_withheld(self._store, self._holdings.withheld)
        if root_of(bucket_digests(self._holdings.digests())) != version.root:
            raise self._fetch_again(f"does not make version {version.version}")
        self._store.seal_meta(CITY, json.dumps(asdict(version)).encode())

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
