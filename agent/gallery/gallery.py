"""The encrypted gallery: who is enrolled, readable only with this device's key.

Each person has a random key of their own, wrapped by the device's; profile and templates are
sealed with it. Revoking overwrites the person's key and rows in every file of the gallery. Two
things it cannot reach: blocks that a flash card keeps to itself, and copies made of the file;
neither opens without the device key. Nothing on disk shows an id, a nickname or an embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.base.errors import GalleryError
from agent.base.values import PURPOSES, Vector
from agent.gallery import rekeying
from agent.gallery.census import Census, Changes, changes_since, take_census
from agent.gallery.city.meta import (
    CityVersion,
    drop_damaged,
    forget_staged,
    is_citys,
    read_keys,
    read_version,
)
from agent.gallery.file.opening import BUSY_SECONDS, Salvage, wipe_set_aside
from agent.gallery.file.rows import (
    as_person,
    extras,
    load_templates,
    opened_people,
    packs_left,
    slot_of,
)
from agent.gallery.file.store import GalleryStore
from agent.gallery.insertion import put_in
from agent.gallery.removal import may_hold, take_out, take_out_key
from agent.gallery.rewrapping import put_under
from agent.gallery.verifying import verified
from agent.keys.ring import KeyRing
from agent.protocol.galleries.messages import GalleryKeys
from agent.recognition.person import Person, Roster, Verification, check_words
from agent.recognition.protection import Protection
from agent.recognition.templates import TemplateSet

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
        self.store = GalleryStore(path, ring, domain=domain, busy_seconds=busy_seconds)
        self._pack = pack
        self._map = self.store.map_in_use()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self.store.close()

    @property
    def salvaged(self) -> Salvage | None:
        """What was done about a broken file, if it was one."""
        return self.store.salvaged

    @property
    def version(self) -> int:
        """A number that differs after every change, by whichever process. Costs one small read.

        Raises GalleryError if the file is gone.
        """
        return self.store.version

    @property
    def protection(self) -> Protection:
        """The map that templates must be rotated by for this gallery, and probes before a search.

        Ask again after every change of ``version``.
        """
        with self.store.reading():
            self._map = self.store.map_in_use()
            return self._map

    def enroll(
        self,
        person_id: str,
        templates: Vector,
        nickname: str = "",
        purposes: tuple[str, ...] = PURPOSES,
        *,
        now_ms: int,
        provisional: bool = False,
        linked: bool = False,
        expires_ms: int = 0,
    ) -> None:
        """Put a person into the gallery, replacing their profile and templates of this pack.

        *templates* is float32 (n, d), n >= 1, rows of length about 1, rotated by
        ``protection``; *now_ms* Unix time. All of it is on disk when this returns, or none.
        *provisional*: until the city has a word on this person (docs/galleries.md); *linked* and
        *expires_ms* as in ``agent.protocol.galleries.records.Record``.
        Raises UsageError for an id, nickname or purpose that cannot be kept, GalleryError for
        unusable templates, when the map was changed meanwhile and when the disk fails.
        """
        check_words(person_id, nickname, purposes)
        facts = {
            "nickname": nickname,
            "purposes": purposes,
            **extras(provisional=provisional, linked=linked, expires_ms=expires_ms),
        }
        with self.store.writing():
            name = self.store.map_in_use().name
            if name != self._map.name:
                raise GalleryError(
                    f"gallery {self.store.path} was given another template key meanwhile, for which"
                    " these templates were not made; enrol again"
                )
            put_in(
                *(self.store, person_id, facts, templates),
                pack=self._pack,
                map_name=name,
                now_ms=now_ms,
            )

    def revoke(self, person_id: str) -> bool:
        """Destroy the person's key and all their rows; False if they are not enrolled.

        A resident of the city's version is kept from coming back with the next repair, until the
        city itself says that they are gone.
        When this returns, no file of the gallery holds any of it. Raises GalleryError if old
        pages could not be overwritten, because another process kept them in use or the disk
        failed: the person is out even so, but call again.
        """
        with self.store.writing():
            found = take_out(self.store, person_id)
        with self.store.errors_named():
            wipe_set_aside(self.store.path, self.store.sealer.ref(person_id))
        self.overwrite()
        return found

    def revoke_key(self, key: bytes) -> bool:
        """The same by what ``agent.protocol.galleries.records.key_of`` makes of the id.

        In a city's gallery, a resident who is not here yet is kept from coming, too. The person
        is out, for good, when this returns; ``overwrite`` then does away with what is left of
        them in old pages. Raises GalleryError when the disk fails: nothing has changed then.
        """
        with self.store.writing():
            ids = take_out_key(self.store, key)
        with self.store.errors_named():
            for person_id in ids:
                wipe_set_aside(self.store.path, self.store.sealer.ref(person_id))
        return bool(ids)

    def overwrite(self) -> None:
        """Do away with what old pages still hold of people who are gone.

        Raises GalleryError while another process reads them, or when the disk fails; call again.
        """
        with self.store.errors_named():
            self.store.overwrite_old_pages()

    def rekey(
        self,
        domain: str | None = None,
        progress: rekeying.Progress = lambda _done, _of: None,
        before_commit: Callable[[Protection, int], None] = lambda _new, _count: None,
    ) -> int:
        """Rotate every template to a new template key, of *domain* if given; how many.

        In one transaction, undone by a cut, or by what *before_commit* raises, which hears (new
        map, how many); *progress* hears (done, of). Old and new templates of one person are as
        unlike as strangers'. Raises GalleryError: the disk fails, or old pages are still in use.
        """
        with self.store.writing():
            record = self.store.meta("template_map")
            old = rekeying.read_map(self.store.ring, self.store.sealer, record, None)
            kind = domain or old.domain
            new = rekeying.protection_of(self.store.ring, kind, old.version + 1)
            forget_staged(self.store)
            changed = rekeying.remap(self.store.db, self.store.sealer, old, new, progress)
            self.store.set_meta("template_map", rekeying.sealed_map(self.store.sealer, new))
            before_commit(new, changed)
        self._map = new
        self.store.domain = self.store.domain and new.domain
        with self.store.errors_named():
            self.store.overwrite_old_pages()
        return changed

    def rewrap(self, ring: KeyRing) -> int:
        """Wrap every person's key under *ring*, which carries this one's lasting keys; how many.

        In one transaction. Raises GalleryError if *ring* lacks the template key in use, which
        would lose every template.
        """
        with self.store.writing():
            changed, kept = put_under(self.store, ring)
        self.store.use_ring(ring)
        self._map = kept
        with self.store.errors_named():
            self.store.overwrite_old_pages()
        return changed

    def may_hold(self, person_id: str) -> bool:
        """Whether there may be anything here of *person_id* to take out, damaged rows too."""
        with self.store.reading():
            return may_hold(self.store, person_id)

    def person(self, person_id: str) -> Person | None:
        """Who is enrolled as *person_id*, None if nobody is, or their profile does not open."""
        ref = self.store.sealer.ref(person_id)
        with self.store.reading():
            profile = self.store.profile_of(ref)
            query = "SELECT pack, COUNT(*) FROM template WHERE ref = ? GROUP BY pack"
            slot = slot_of(ref, profile or {})
            counts = dict(self.store.db.execute(query, [slot]).fetchall())
        return None if profile is None else as_person(profile, counts)

    def people(self) -> list[Person]:
        """Everybody enrolled whose profile opens, by id."""
        with self.store.reading():
            counts: dict[bytes, dict[str, int]] = {}
            query = "SELECT ref, pack, COUNT(*) FROM template GROUP BY ref, pack"
            for ref, pack, count in self.store.db.execute(query):
                counts.setdefault(ref, {})[pack] = count
            found = [
                as_person(profile, counts.get(slot_of(ref, profile), {}))
                for ref, _, profile in opened_people(self.store.db, self.store.sealer)
                if profile is not None
            ]
        return sorted(found, key=lambda person: person.id)

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """Whatever is read within is of one and the same moment."""
        with self.store.reading():
            yield

    @contextmanager
    def one_change(self) -> Iterator[int]:
        """What is read and changed within is one transaction; gives ``version`` before it."""
        with self.store.writing(told=False) as version:
            yield version

    def census(self) -> tuple[Census, Roster]:
        """Who is here, and what the door may do with them: far less than ``people()``."""
        with self.store.reading():
            return take_census(self.store.db, self.store.sealer)

    def changes_since(self, census: Census, *, purpose: str) -> Changes | None:
        """What changed since *census* was taken; None if everybody had better be read again.

        Asked under the same ``protection`` alone.
        """
        with self.store.reading():
            name = self.store.map_in_use().name
            return changes_since(
                *(census, self.store.db, self.store.sealer, name, self._pack, purpose)
            )

    def load(self, former: str = "", *, purpose: str | None = None) -> TemplateSet:
        """A template of this gallery's pack for each person enrolled for *purpose* (None: any).

        With *former*, those of that pack instead, of people who have none of this gallery's.
        ``damaged`` counts people of whom a row does not open; the rest of them is there.
        """
        pack, lacking = (former, self._pack) if former else (self._pack, "")
        with self.store.reading():
            name = self.store.map_in_use().name
            templates = load_templates(
                *(self.store.db, self.store.sealer, name, pack, purpose, lacking),
                city=is_citys(self.store),
            )
        if templates.damaged:
            logger.error(
                "gallery %s: %d people have rows that do not open; enrol them again",
                self.store.path,
                templates.damaged,
            )
        return templates

    def to_enrol_again(self) -> dict[str, int]:
        """How many people have templates of other packs and none of this gallery's, by pack."""
        with self.store.reading():
            return packs_left(self.store.db, self.store.sealer, self._pack)

    def city_version(self) -> CityVersion | None:
        """The city's version in force; None where the gallery is this device's own."""
        with self.store.reading():
            return read_version(self.store)

    def city_keys(self) -> GalleryKeys | None:
        """What the city gave for its gallery; None where it gave nothing."""
        with self.store.reading():
            return read_keys(self.store)

    def drop_damaged(self) -> int:
        """Take out what does not open of the city's residents, who then are sent anew; how many."""
        return drop_damaged(self.store)

    def verify(self) -> Verification:
        """Open every row of every pack, and overwrite what earlier revocations left behind."""
        with self.store.errors_named():
            self.store.overwrite_old_pages()
        with self.store.reading():
            return verified(self.store)
