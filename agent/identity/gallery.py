"""The encrypted gallery: who is enrolled, readable only with this device's key.

Each person has a random key of their own, wrapped by the device's; profile and templates are
sealed with it. Revoking overwrites the person's key and rows in every file of the gallery. Two
things it cannot reach: blocks that a flash card keeps to itself, and copies made of the file;
neither opens without the device key. Nothing on disk shows an id, a nickname or an embedding.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from agent.errors import GalleryError
from agent.identity import rekeying
from agent.identity.gallery_file import (
    BUSY_SECONDS,
    Salvage,
    advice,
    new_version,
    open_database,
    wipe_set_aside,
)
from agent.identity.gallery_rows import (
    as_person,
    check_templates,
    load_templates,
    opened_people,
    opened_profile,
    packs_left,
)
from agent.identity.keys import KeyRing
from agent.identity.person import Person, Verification, check_words
from agent.identity.protection import Protection
from agent.identity.sealing import PersonSeal, Sealer
from agent.identity.templates import TemplateSet
from agent.values import PURPOSES, Vector

logger = logging.getLogger(__name__)


class Gallery:
    """The gallery of one device. Any thread may call it; calls wait for each other."""

    def __init__(
        self,
        path: Path,
        ring: KeyRing,
        pack: str,
        *,
        domain: str | None = None,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        """Open the gallery at *path*; *pack* names the model that templates are enrolled with.

        Its templates must be protected for *domain*, "bus" or "hall"; with None it is taken as it
        is, and a new one is for buses. Waits at most *busy_seconds* for what another process is
        doing with the file. A file that SQLite finds malformed is renamed aside and what can be
        read of it is kept: ``salvaged`` then says so. Raises GalleryError if the file was written
        under another key, by a newer version, for another domain, or cannot be used.
        """
        self._path = path
        self._pack = pack
        self._domain = domain
        self._ring = ring
        self._sealer = Sealer(ring)
        self._busy_seconds = busy_seconds
        self._lock = RLock()
        self.salvaged: Salvage | None = None
        self._open()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self._db.close()

    @property
    def version(self) -> int:
        """A number that differs after every change, by whichever process. Costs one small read.

        Raises GalleryError if the file is gone.
        """
        with self._errors_named():
            # Another process may have salvaged the file: follow the name, not the open file.
            if self._path.stat().st_ino != self._inode:
                self._db.close()
                self._open()
            version = self._meta("version")
            return int.from_bytes(version, "big") if isinstance(version, bytes) else 0

    @property
    def protection(self) -> Protection:
        """The map that templates must be rotated by for this gallery, and probes before a search.

        Ask again after every change of ``version``.
        """
        with self._reading():
            self._map = self._map_in_use()
            return self._map

    def enroll(
        self,
        person_id: str,
        templates: Vector,
        nickname: str = "",
        purposes: tuple[str, ...] = PURPOSES,
        *,
        now_ms: int,
    ) -> None:
        """Put a person into the gallery, replacing their profile and templates of this pack.

        *templates* is float32 (n, d), n >= 1, rows of length about 1, rotated by
        ``protection``; *now_ms* Unix time. All of it is on disk when this returns, or none.
        Raises UsageError for an id, nickname or purpose that cannot be kept, GalleryError for
        unusable templates, when the map was changed meanwhile and when the disk fails.
        """
        check_words(person_id, nickname, purposes)
        ref = self._sealer.ref(person_id)
        with self._writing():
            if self._map_in_use().name != self._map.name:
                raise GalleryError(
                    f"gallery {self._path} was given another template key meanwhile, for which"
                    " these templates were not made; enrol again"
                )
            check_templates(self._db, self._pack, templates)
            seal = self._seal_of(ref)
            created_ms = now_ms
            if seal is None:
                # New, or damaged so that nothing of it opens any more: begin afresh.
                seal, wrapped = self._sealer.new_person(ref)
                self._db.execute("DELETE FROM template WHERE ref = ?", [ref])
                self._db.execute("INSERT OR REPLACE INTO person VALUES (?, ?, x'')", [ref, wrapped])
            else:
                before = opened_profile(seal, self._row_of(ref)[1])
                created_ms = before["created_ms"] if before else now_ms
                self._forget_templates(ref, seal)
            profile = {
                "id": person_id,
                "nickname": nickname,
                "purposes": purposes,
                "created_ms": created_ms,
            }
            self._db.execute(
                "UPDATE person SET profile = ? WHERE ref = ?",
                [seal.seal_profile(json.dumps(profile, ensure_ascii=False).encode()), ref],
            )
            for row in templates.astype("<f4", copy=False):
                self._db.execute(
                    "INSERT INTO template (ref, pack, sealed) VALUES (?, ?, ?)",
                    [
                        ref,
                        self._pack,
                        seal.seal_template(self._pack, self._map.name, row.tobytes()),
                    ],
                )

    def revoke(self, person_id: str) -> bool:
        """Destroy the person's key and all their rows; False if they are not enrolled.

        When this returns, no file of the gallery holds any of it. Raises GalleryError if old
        pages could not be overwritten, because another process kept them in use or the disk
        failed: the person is out even so, but call again.
        """
        ref = self._sealer.ref(person_id)
        with self._writing():
            rows = self._db.execute("DELETE FROM template WHERE ref = ?", [ref]).rowcount
            rows += self._db.execute("DELETE FROM person WHERE ref = ?", [ref]).rowcount
        with self._errors_named():
            # Files set aside after damage hold the same key; without it their rows are noise.
            wipe_set_aside(self._path, ref)
            self._overwrite_old_pages()
        return rows > 0

    def rekey(
        self, domain: str | None = None, progress: rekeying.Progress = lambda _done, _of: None
    ) -> int:
        """Rotate every template to a new template key, of *domain* if given; how many.

        In one transaction: a cut leaves all under the old key or all under the new. Old and new
        templates of one person are as unlike as strangers'. *progress* hears (done, of) at times.
        Raises GalleryError when the disk fails, or old pages could not be overwritten.
        """
        with self._writing():
            record = self._meta("template_map")
            old = rekeying.read_map(self._ring, self._sealer, record, None)
            kind = domain or old.domain
            new = rekeying.protection_of(self._ring, kind, old.version + 1)
            changed = rekeying.remap(self._db, self._sealer, old, new, progress)
            self._set_meta("template_map", rekeying.sealed_map(self._sealer, new))
        self._map, self._domain = new, self._domain and new.domain
        with self._errors_named():
            self._overwrite_old_pages()
        return changed

    def rewrap(self, ring: KeyRing) -> int:
        """Wrap every person's key under *ring*, which carries this one's lasting keys; how many.

        In one transaction. Raises GalleryError if *ring* lacks the template key in use, which
        would lose every template.
        """
        sealer = Sealer(ring)
        with self._writing():
            now = self._map_in_use()
            kept = rekeying.protection_of(ring, now.domain, now.version)
            if kept.check != now.check or sealer.ref("") != self._sealer.ref(""):
                raise GalleryError(
                    f"gallery {self._path}: the new keys do not carry on what must last; nothing"
                    " was changed, begin the rotation again"
                )
            changed = rekeying.rewrap(self._db, self._sealer, sealer)
            self._set_meta("key_check", sealer.key_check())
            self._set_meta("template_map", rekeying.sealed_map(sealer, kept))
        self._ring, self._sealer, self._map = ring, sealer, kept
        with self._errors_named():
            self._overwrite_old_pages()
        return changed

    def person(self, person_id: str) -> Person | None:
        """Who is enrolled as *person_id*, None if nobody is, or their profile does not open."""
        ref = self._sealer.ref(person_id)
        with self._reading():
            seal = self._seal_of(ref)
            profile = opened_profile(seal, self._row_of(ref)[1]) if seal else None
            query = "SELECT pack, COUNT(*) FROM template WHERE ref = ? GROUP BY pack"
            counts = dict(self._db.execute(query, [ref]).fetchall())
        return None if profile is None else as_person(profile, counts)

    def people(self) -> list[Person]:
        """Everybody enrolled whose profile opens, by id."""
        with self._reading():
            counts: dict[bytes, dict[str, int]] = {}
            query = "SELECT ref, pack, COUNT(*) FROM template GROUP BY ref, pack"
            for ref, pack, count in self._db.execute(query):
                counts.setdefault(ref, {})[pack] = count
            found = [
                as_person(profile, counts.get(ref, {}))
                for ref, _, profile in opened_people(self._db, self._sealer)
                if profile is not None
            ]
        return sorted(found, key=lambda person: person.id)

    def nicknames(self) -> dict[str, str]:
        """The nickname of everybody who chose one, by id: a fraction of ``people()`` in memory."""
        with self._reading():
            return {
                profile["id"]: profile["nickname"]
                for _, _, profile in opened_people(self._db, self._sealer)
                if profile is not None and profile["nickname"]
            }

    def load(self, former: str = "", *, purpose: str | None = None) -> TemplateSet:
        """A template of this gallery's pack for each person enrolled for *purpose* (None: any).

        With *former*, those of that pack instead, of people who have none of this gallery's.
        ``damaged`` counts people of whom a row does not open; the rest of them is there.
        """
        pack, lacking = (former, self._pack) if former else (self._pack, "")
        with self._reading():
            name = self._map_in_use().name
            templates = load_templates(self._db, self._sealer, name, pack, purpose, lacking)
        if templates.damaged:
            logger.error(
                "gallery %s: %d people have rows that do not open; enrol them again",
                self._path,
                templates.damaged,
            )
        return templates

    def to_enrol_again(self) -> dict[str, int]:
        """How many people have templates of other packs and none of this gallery's, by pack."""
        with self._reading():
            return packs_left(self._db, self._pack)

    def verify(self) -> Verification:
        """Open every row of every pack, and overwrite what earlier revocations left behind."""
        with self._errors_named():
            self._overwrite_old_pages()
        with self._reading():
            name = self._map_in_use().name
            people = list(opened_people(self._db, self._sealer))
            seals = {ref: seal for ref, seal, _ in people if seal is not None}
            templates = opened = 0
            for ref, pack, sealed in self._db.execute("SELECT ref, pack, sealed FROM template"):
                templates += 1
                seal = seals.get(ref)
                opened += seal is not None and seal.open_template(pack, name, sealed) is not None
        whole = sum(profile is not None for _, _, profile in people)
        return Verification(len(people), len(people) - whole, templates, templates - opened)

    def _open(self) -> None:
        with self._errors_named():
            self._db, self.salvaged = open_database(self._path, self._busy_seconds)
            self._inode = self._path.stat().st_ino
            try:
                self._check_key()
                self._check_map()
            except BaseException:
                self._db.close()
                raise

    def _check_key(self) -> None:
        if self._key_fits():
            return
        with self._writing():
            if self._key_fits():
                return  # another process began this gallery just now
            # The check itself may be what is damaged: people who open prove the key as well.
            seals = [seal is not None for _, seal, _ in opened_people(self._db, self._sealer)]
            if not any(seals) and (seals or self._meta("key_check") is not None):
                raise GalleryError(
                    f"gallery {self._path} was written under another key than this device's;"
                    " restore the key, or move the gallery away and enrol everybody again"
                )
            self._set_meta("key_check", self._sealer.key_check())

    def _check_map(self) -> None:
        if not rekeying.is_map(self._sealer, self._meta("template_map")):
            with self._writing():
                if not rekeying.is_map(self._sealer, self._meta("template_map")):
                    domain = self._domain or PURPOSES[0]
                    found = rekeying.find_map(self._db, self._ring, self._sealer, domain)
                    self._set_meta("template_map", rekeying.sealed_map(self._sealer, found))
        self._map = self._map_in_use()

    def _map_in_use(self) -> Protection:
        """As recorded. Raises GalleryError if it is another domain's, or its key is not here."""
        try:
            return rekeying.read_map(
                self._ring, self._sealer, self._meta("template_map"), self._domain
            )
        except GalleryError as error:
            raise GalleryError(f"gallery {self._path}: {error}") from error

    def _key_fits(self) -> bool:
        return self._sealer.is_key_check(self._meta("key_check"))

    def _meta(self, key: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return row[0] if row else None

    def _set_meta(self, key: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, value])

    def _row_of(self, ref: bytes) -> tuple[Any, Any]:
        query = "SELECT wrapped_key, profile FROM person WHERE ref = ?"
        wrapped, profile = self._db.execute(query, [ref]).fetchone() or (None, None)
        return wrapped, profile

    def _seal_of(self, ref: bytes) -> PersonSeal | None:
        return self._sealer.person(ref, self._row_of(ref)[0])

    def _forget_templates(self, ref: bytes, seal: PersonSeal) -> None:
        """Delete the person's templates of this pack, and whatever of other packs is damaged."""
        query = "SELECT id, pack, sealed FROM template WHERE ref = ?"
        for number, pack, sealed in self._db.execute(query, [ref]).fetchall():
            if pack == self._pack or seal.open_template(pack, self._map.name, sealed) is None:
                self._db.execute("DELETE FROM template WHERE id = ?", [number])

    def _overwrite_old_pages(self) -> None:
        """Bring the log into the file and empty it: deleted pages are zeros in both then."""
        busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise GalleryError(
                f"gallery {self._path}: the change is made, but another process still reads old"
                " pages, so they could not be overwritten; run: kaopass gallery verify"
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One state of the gallery for several reads."""
        with self._errors_named(), self._db.atomic():
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction; the version goes first, which waits for other writers."""
        with self._errors_named(), self._db.atomic():
            self._set_meta("version", new_version())
            yield

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except (sqlite3.Error, OSError) as error:
                raise GalleryError(f"gallery {self._path}: {error}; {advice(error)}") from error
