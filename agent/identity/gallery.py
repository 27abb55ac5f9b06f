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
from types import TracebackType
from typing import Any

import numpy as np

from agent.errors import GalleryError
from agent.identity.gallery_file import (
    BUSY_SECONDS,
    Salvage,
    is_malformed,
    new_version,
    open_database,
)
from agent.identity.gallery_rows import load_templates, opened_people, opened_profile
from agent.identity.keys import KeyRing
from agent.identity.person import PURPOSES, Person, Verification, check_words
from agent.identity.sealing import OVERHEAD_BYTES, PersonSeal, Sealer
from agent.identity.templates import TemplateSet
from agent.values import Vector

logger = logging.getLogger(__name__)

LENGTH_TOLERANCE = 1e-3  # of an embedding's length from 1: float32 rounding is far below


class Gallery:
    """The gallery of one device. Any thread may call it; calls wait for each other."""

    def __init__(
        self, path: Path, ring: KeyRing, pack: str, *, busy_seconds: float = BUSY_SECONDS
    ) -> None:
        """Open the gallery at *path*; *pack* names the model that templates are enrolled with.

        Waits at most *busy_seconds* for what another process is doing with the file.
        A file that SQLite finds malformed is renamed aside and what can be read of it is kept:
        ``salvaged`` then says so. Raises GalleryError if the file was written under another key,
        by a newer version, or cannot be used.
        """
        self._path = path
        self._pack = pack
        self._sealer = Sealer(ring)
        self._busy_seconds = busy_seconds
        self._lock = RLock()
        self.salvaged: Salvage | None = None
        self._open()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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

        *templates* is float32 (n, d), n >= 1, rows of length 1; *now_ms* Unix time. All of it is
        on disk when this returns, or none. Raises UsageError for an id, nickname or purpose that
        cannot be kept, GalleryError for unusable templates and when the disk fails.
        """
        check_words(person_id, nickname, purposes)
        ref = self._sealer.ref(person_id)
        with self._writing():
            self._check_templates(templates)
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
                    [ref, self._pack, seal.seal_template(self._pack, row.tobytes())],
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
            self._overwrite_old_pages()
        return rows > 0

    def people(self) -> list[Person]:
        """Everybody enrolled whose profile opens, by id."""
        with self._reading():
            counts: dict[bytes, dict[str, int]] = {}
            query = "SELECT ref, pack, COUNT(*) FROM template GROUP BY ref, pack"
            for ref, pack, count in self._db.execute(query):
                counts.setdefault(ref, {})[pack] = count
            found = [
                Person(
                    id=profile["id"],
                    nickname=profile["nickname"],
                    purposes=tuple(profile["purposes"]),
                    created_ms=profile["created_ms"],
                    templates=counts.get(ref, {}),
                )
                for ref, _, profile in opened_people(self._db, self._sealer)
                if profile is not None
            ]
        return sorted(found, key=lambda person: person.id)

    def load(self, pack: str | None = None, *, purpose: str | None = None) -> TemplateSet:
        """The templates of *pack* (default: this gallery's) of everybody enrolled for *purpose*.

        ``damaged`` in the result counts people of whom a row does not open; the rest of them, and
        everybody else, is there. With *purpose* None all purposes are meant.
        """
        with self._reading():
            templates = load_templates(self._db, self._sealer, pack or self._pack, purpose)
        if templates.damaged:
            logger.error(
                "gallery %s: %d people have rows that do not open; enrol them again",
                self._path,
                templates.damaged,
            )
        return templates

    def verify(self) -> Verification:
        """Open every row of every pack, and overwrite what earlier revocations left behind."""
        with self._errors_named():
            self._overwrite_old_pages()
        with self._reading():
            people = list(opened_people(self._db, self._sealer))
            seals = {ref: seal for ref, seal, _ in people if seal is not None}
            templates = opened = 0
            for ref, pack, sealed in self._db.execute("SELECT ref, pack, sealed FROM template"):
                templates += 1
                seal = seals.get(ref)
                opened += seal is not None and seal.open_template(pack, sealed) is not None
        whole = sum(profile is not None for _, _, profile in people)
        return Verification(len(people), len(people) - whole, templates, templates - opened)

    def _open(self) -> None:
        with self._errors_named():
            self._db, self.salvaged = open_database(self._path, self._busy_seconds)
            self._inode = self._path.stat().st_ino
            try:
                self._check_key()
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
            if pack == self._pack or seal.open_template(pack, sealed) is None:
                self._db.execute("DELETE FROM template WHERE id = ?", [number])

    def _check_templates(self, templates: Vector) -> None:
        if templates.ndim != 2 or not len(templates) or templates.dtype != np.float32:
            raise GalleryError(
                f"templates are {templates.dtype} {templates.shape}; they must be float32 (n, d)"
            )
        lengths = np.linalg.norm(templates, axis=1)
        if not np.all(np.abs(lengths - 1) <= LENGTH_TOLERANCE):
            raise GalleryError(
                f"templates have lengths {np.round(lengths, 3).tolist()}; each must be 1: the"
                " model's output was not normalised, or is broken"
            )
        # The length most of a few rows have, as any one of them may be damaged.
        row = self._db.execute(
            "SELECT length(sealed) AS bytes FROM (SELECT sealed FROM template"
            " INDEXED BY template_by_ref WHERE pack = ? LIMIT 9)"
            " WHERE bytes > ? GROUP BY bytes ORDER BY COUNT(*) DESC LIMIT 1",
            [self._pack, OVERHEAD_BYTES],
        ).fetchone()
        values = (row[0] - OVERHEAD_BYTES) // 4 if row else templates.shape[1]
        if values != templates.shape[1]:
            raise GalleryError(
                f"templates have {templates.shape[1]} values, those enrolled with pack"
                f" {self._pack!r} have {values}; check the installed model"
            )

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
                raise GalleryError(f"gallery {self._path}: {error}; {_advice(error)}") from error


def _advice(error: Exception) -> str:
    if isinstance(error, sqlite3.Error) and is_malformed(error):
        return "run: kaopass gallery verify, which sets it aside and keeps what can be read"
    text = str(error)
    if "full" in text:
        return "make room on the disk"
    if "locked" in text:
        return "another process is writing to it; try again"
    return "check that the disk is mounted and that the agent's user may write there"
