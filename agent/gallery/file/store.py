"""The gallery's file as everything in it is read and written: keys checked, whole transactions.

One thread uses one of these at a time; several, in several threads or processes, may be open on
one file. What the rows mean is ``agent.gallery.gallery``'s (people) and
``agent.gallery.city.copy``'s (the city's version).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from sqlite_utils import Database

from agent.base.errors import GalleryError
from agent.base.values import PURPOSES
from agent.gallery import rekeying
from agent.gallery.file.opening import BUSY_SECONDS, GALLERY, Salvage, new_version, open_database
from agent.gallery.file.rows import opened_people, opened_profile, slot_of
from agent.gallery.file.sealing import GallerySealer, PersonSeal
from agent.keys.ring import KeyRing
from agent.recognition.protection import Protection


class GalleryStore:
    """The open file of a gallery under one key ring; ``db`` is for use inside its transactions."""

    db: Database

    def __init__(
        self,
        path: Path,
        ring: KeyRing,
        *,
        domain: str | None = None,
        busy_seconds: float = BUSY_SECONDS,
        checked: bool = False,
    ) -> None:
        """Open the gallery at *path* as ``Gallery`` says. Raises GalleryError.

        With *checked* another part of this process has opened it, so it need not be read whole.
        """
        self.path = path
        self.domain = domain
        self.ring = ring
        self.sealer = GallerySealer(ring)
        self.salvaged: Salvage | None = None
        self._busy_seconds = busy_seconds
        self._checked = checked
        self._lock = RLock()
        self._open()

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self.db.close()

    @property
    def version(self) -> int:
        """A number that differs after every change, by whichever process. Costs one small read.

        Raises GalleryError if the file is gone.
        """
        with self.errors_named():
            # Another process may have salvaged the file: follow the name, not the open file.
            if self.path.stat().st_ino != self._inode:
                self.db.close()
                self._open()
            return _number(self.meta("version"))

    def use_ring(self, ring: KeyRing) -> None:
        """Everything is under *ring* from now on."""
        self.ring, self.sealer = ring, GallerySealer(ring)

    def map_in_use(self) -> Protection:
        """As recorded. Raises GalleryError if it is another domain's, or its key is not here."""
        try:
            return rekeying.read_map(self.ring, self.sealer, self.meta("template_map"), self.domain)
        except GalleryError as error:
            raise GalleryError(f"gallery {self.path}: {error}") from error

    def meta(self, key: str) -> Any:
        row = self.db.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: bytes) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", [key, value])

    def sealed_meta(self, key: str) -> bytes | None:
        """What ``seal_meta`` kept as *key*; None if there is nothing, or it does not open."""
        return self.sealer.open_meta(key, self.meta(key))

    def seal_meta(self, key: str, value: bytes) -> None:
        self.set_meta(key, self.sealer.seal_meta(key, value))

    def row_of(self, ref: bytes) -> tuple[Any, Any]:
        """The wrapped key and sealed profile of the person at *ref*; None where nobody is."""
        query = "SELECT wrapped_key, profile FROM person WHERE ref = ?"
        wrapped, profile = self.db.execute(query, [ref]).fetchone() or (None, None)
        return wrapped, profile

    def seal_of(self, ref: bytes) -> PersonSeal | None:
        return self.sealer.person(ref, self.row_of(ref)[0])

    def profile_of(self, ref: bytes) -> dict[str, Any] | None:
        """The profile of the person at *ref*; None where nobody is, or it does not open."""
        wrapped, sealed = self.row_of(ref)
        seal = self.sealer.person(ref, wrapped)
        return None if seal is None else opened_profile(seal, sealed)

    def delete_person(self, ref: bytes) -> int:
        """Delete the rows of the person at *ref*, templates too, within a transaction; how many."""
        query = "DELETE FROM template WHERE ref IN (?, ?)"
        slot = slot_of(ref, self.profile_of(ref) or {})
        templates = self.db.execute(query, [ref, slot]).rowcount
        person = self.db.execute("DELETE FROM person WHERE ref = ?", [ref]).rowcount
        return int(templates + person)

    def overwrite_old_pages(self) -> None:
        """Bring the log into the file and empty it: deleted pages are zeros in both then.

        Raises GalleryError while another process still reads them.
        """
        busy = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if busy:
            raise GalleryError(
                f"gallery {self.path}: the change is made, but another process still reads old"
                " pages, so they could not be overwritten; run: kaopass gallery verify"
            )

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One state of the gallery for several reads."""
        with self.errors_named(), self.db.atomic():
            yield

    @contextmanager
    def writing(self, *, told: bool = True) -> Iterator[int]:
        """One transaction, which first waits for other writers; gives ``version`` before it.

        With *told* every reader finds another one afterwards; without, nothing changed that
        concerns them.
        """
        with self.errors_named(), self.db.atomic():
            # The first statement writes, so that nothing read after it can be stale.
            self.set_meta("touched", new_version())
            before = self.meta("version")
            if told or before is None:
                self.set_meta("version", new_version())
            yield _number(before)

    @contextmanager
    def soon_durable(self) -> Iterator[None]:
        """Around a transaction whose loss in a power cut does no harm: it need not wait for the
        card. Whatever is written durably after it takes it along."""
        with self.errors_named():
            self.db.execute("PRAGMA synchronous = NORMAL")
            try:
                yield
            finally:
                self.db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        with self._lock, GALLERY.named(self.path):
            yield

    def _open(self) -> None:
        with self.errors_named():
            self.db, self.salvaged = open_database(
                self.path, self._busy_seconds, checked=self._checked
            )
            self._inode = self.path.stat().st_ino
            try:
                self._check_key()
                self._check_map()
            except BaseException:
                self.db.close()
                raise

    def _check_key(self) -> None:
        if self._key_fits():
            return
        with self.writing():
            if self._key_fits():
                return  # another process began this gallery just now
            # The check itself may be what is damaged: people who open prove the key as well.
            seals = [seal is not None for _, seal, _ in opened_people(self.db, self.sealer)]
            if not any(seals) and (seals or self.meta("key_check") is not None):
                raise GalleryError(
                    f"gallery {self.path} was written under another key than this device's;"
                    " restore the key, or move the gallery away and enrol everybody again"
                )
            self.set_meta("key_check", self.sealer.key_check())

    def _check_map(self) -> None:
        if not rekeying.is_map(self.sealer, self.meta("template_map")):
            with self.writing():
                if not rekeying.is_map(self.sealer, self.meta("template_map")):
                    domain = self.domain or PURPOSES[0]
                    found = rekeying.find_map(self.db, self.ring, self.sealer, domain)
                    self.set_meta("template_map", rekeying.sealed_map(self.sealer, found))
        self.map_in_use()

    def _key_fits(self) -> bool:
        return self.sealer.is_key_check(self.meta("key_check"))


def _number(version: object) -> int:
    return int.from_bytes(version, "big") if isinstance(version, bytes) else 0
