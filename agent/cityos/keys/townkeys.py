"""The town's keys, outside the database: what is erased here, no copy of the database opens.

``keys.db`` in the keys' directory holds a key a resident, the content keys of the galleries and the
enrolment keys, each wrapped by the town's master key (``town-key`` beside it, or a credential from
systemd). Everything else is derived from the master key by HKDF-SHA256 (RFC 5869). The file also
remembers what must outlive a restored database: which versions were published, who withdrew, and
which enrolments of somebody erased are void.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from agent.base.errors import CityError
from agent.base.wholefile import give_to_owner
from agent.cityos.keys.keyfile import KEY_BYTES, KeyFile
from agent.protocol.galleries.bodies import KEY_ID_BYTES
from agent.protocol.galleries.messages import Position
from agent.protocol.galleries.records import canonical_id
from agent.protocol.hpke import public_key_of

OWN_DOMAIN = "town"  # templates at rest are mapped for the city alone
# Devices that were away may hold enrolments sealed to a key that was replaced since.
ENROLMENT_KEY_DAYS = 35
_DAY_MS = 86_400_000
_CHUNK = 500


class TownKeys(KeyFile):
    """Every key of the town. Raises CityError."""

    def ref(self, person_id: str) -> bytes:
        """What the resident *person_id* is called in the database: 32 bytes."""
        return hmac.digest(self._index, canonical_id(person_id).encode(), "sha256")

    def template_key(self, domain: str, version: int) -> bytes:
        """The key of *domain*'s template map ("bus", "hall", or the city's own)."""
        return self._derive(f"template {domain} {version}")

    def pseudonym_key(self, name: str) -> bytes:
        """Turns an id into a pseudonym, for "bus", "hall" or "linked"."""
        return self._derive(f"pseudonym {name}")

    # Residents.

    def new_residents(self, refs: Sequence[bytes]) -> dict[bytes, bytes]:
        """A fresh key for each; one that has a key keeps it.

        Raises CityError for somebody whose erasure has begun: no other key could be kept.
        """
        made = {ref: secrets.token_bytes(KEY_BYTES) for ref in refs}
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO resident (ref, key) VALUES (?, ?)",
                [(ref, self._sealed(key, b"resident\0" + ref)) for ref, key in made.items()],
            )
        found = self.some(refs)
        if len(found) < len(made):
            raise CityError("an erasure under this id was begun and not ended: try it once more")
        return found

    def resident(self, ref: bytes) -> bytes | None:
        """Their key, None if it was destroyed or never made."""
        found = self._one("SELECT key FROM resident WHERE ref = ? AND condemned = 0", ref)
        return self._opened(found[0], b"resident\0" + ref) if found else None

    def some(self, refs: Sequence[bytes]) -> dict[bytes, bytes]:
        """The keys of those among *refs* who have one."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(refs), _CHUNK):
            some = refs[start : start + _CHUNK]
            marks = ",".join("?" * len(some))
            with self._named():
                rows = self._db.execute(
                    f"SELECT ref, key FROM resident WHERE condemned = 0 AND ref IN ({marks})",  # noqa: S608 - marks alone
                    some,
                ).fetchall()
            found |= {ref: self._opened(key, b"resident\0" + ref) for ref, key in rows}
        return found

    def never_held(self) -> bool:
        """Whether nobody's key was ever in this file: it is new."""
        held = "SELECT EXISTS (SELECT 1 FROM resident) OR EXISTS (SELECT 1 FROM erased)"
        found = self._one(held)
        return found is None or not found[0]

    def residents(self) -> dict[bytes, bytes]:
        """Every key that is not condemned, by reference."""
        with self._named():
            rows = self._db.execute("SELECT ref, key FROM resident WHERE condemned = 0").fetchall()
        return {ref: self._opened(key, b"resident\0" + ref) for ref, key in rows}

    def condemn(self, ref: bytes) -> None:
        """Never use this key again: the erasure goes on after a cut, and cannot be undone.

        What was enrolled at a device by now, under whatever enrolment key, is void.
        """
        with self._transaction() as db:
            db.execute("UPDATE resident SET condemned = 1 WHERE ref = ?", (ref,))
            newest = db.execute("SELECT COALESCE(MAX(number), 0) FROM enrolment").fetchone()[0]
            db.execute("INSERT OR REPLACE INTO erased VALUES (?, ?)", (ref, newest))

    def condemned(self) -> list[bytes]:
        """Whose erasure was begun and not ended."""
        with self._named():
            rows = self._db.execute("SELECT ref FROM resident WHERE condemned = 1").fetchall()
        return [row[0] for row in rows]

    def condemned_key(self, ref: bytes) -> bytes | None:
        """The key of somebody whose erasure has begun, to end it with."""
        found = self._one("SELECT key FROM resident WHERE ref = ? AND condemned = 1", ref)
        return self._opened(found[0], b"resident\0" + ref) if found else None

    def destroy(self, refs: Sequence[bytes]) -> None:
        """Overwrite these keys, and what else is remembered under the references."""
        with self._transaction() as db:
            for table in ("resident", "withdrawal"):
                db.executemany(f"DELETE FROM {table} WHERE ref = ?", [(ref,) for ref in refs])  # noqa: S608 - one of two words

    def is_erased(self, ref: bytes, number: int) -> bool:
        """Whether *ref* was erased after enrolment key *number* began, or is being erased.

        Nothing sealed to that key can be told from what was sealed before the erasure.
        """
        wanted = (
            "SELECT 1 FROM erased WHERE ref = ? AND number >= ?"
            " UNION ALL SELECT 1 FROM resident WHERE ref = ? AND condemned = 1"
        )
        return self._one(wanted, ref, number, ref) is not None

    def mark_gone(self, people: Iterable[str], until_ms: int) -> None:
        """Remember pseudonyms of somebody erased, whose events may still come from devices."""
        with self._transaction() as db:
            rows = [(person, until_ms) for person in people]
            db.executemany("INSERT OR REPLACE INTO gone VALUES (?, ?)", rows)

    def gone(self, now_ms: int) -> list[str]:
        """Pseudonyms whose events are to be nobody's, as long as such events may come."""
        with self._transaction() as db:
            db.execute("DELETE FROM gone WHERE until_ms < ?", (now_ms,))
            return [row[0] for row in db.execute("SELECT person FROM gone")]

    def withdrew(self, ref: bytes, purpose: str, now_ms: int) -> None:
        """Remember a withdrawal where a restored database does not undo it."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO withdrawal VALUES (?, ?, ?)", (ref, purpose, now_ms))

    def withdrawals(self) -> dict[tuple[bytes, str], int]:
        """The last withdrawal of each purpose: Unix ms by (reference, purpose)."""
        with self._named():
            rows = self._db.execute("SELECT ref, purpose, at_ms FROM withdrawal").fetchall()
        return {(ref, purpose): at_ms for ref, purpose, at_ms in rows}

    # Galleries.

    def content(self, gallery: str) -> tuple[bytes, bytes]:
        """(id, key) of the newest content key: the one of the next version to be published."""
        wanted = "SELECT id FROM content WHERE gallery = ? ORDER BY number DESC LIMIT 1"
        found = self._one(wanted, gallery)
        key_id = bytes(found[0]) if found else self.new_content(gallery)
        key = self.content_of(gallery, key_id)
        assert key is not None  # noqa: S101 - it was found just now
        return key_id, key

    def content_of(self, gallery: str, key_id: bytes) -> bytes | None:
        """The content key called *key_id*, None if it was destroyed."""
        found = self._one("SELECT key FROM content WHERE gallery = ? AND id = ?", gallery, key_id)
        return self._opened(found[0], b"content\0" + gallery.encode() + key_id) if found else None

    def map_version(self, gallery: str) -> int:
        """The version of the template key that the next version to be published has, from 1."""
        return self.map_of(gallery, self.content(gallery)[0])

    def map_of(self, gallery: str, key_id: bytes) -> int:
        """The version of the template key that goes with the content key *key_id*."""
        found = self._one("SELECT map FROM content WHERE gallery = ? AND id = ?", gallery, key_id)
        return int(found[0]) if found else 1

    def new_content(self, gallery: str, *, rekey: bool = False) -> bytes:
        """Begin another content key with the next version: its id. Who has only the last is out.

        With *rekey* another template key begins with it.
        """
        key_id, key = secrets.token_bytes(KEY_ID_BYTES), secrets.token_bytes(KEY_BYTES)
        sealed = self._sealed(key, b"content\0" + gallery.encode() + key_id)
        with self._transaction() as db:
            newest = "SELECT map FROM content WHERE gallery = ? ORDER BY number DESC LIMIT 1"
            found = db.execute(newest, (gallery,)).fetchone()
            number = (int(found[0]) if found else 1) + int(rekey and found is not None)
            db.execute(
                "INSERT INTO content (gallery, id, key, map) VALUES (?, ?, ?, ?)",
                (gallery, key_id, sealed, number),
            )
        return key_id

    def published(self, gallery: str, position: Position, key_id: bytes) -> None:
        """Version *position* is out under content key *key_id*: the keys before it are destroyed.

        Those after it stay, for the version to come.
        """
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", (gallery, *position))
            db.execute(
                "DELETE FROM content WHERE gallery = ? AND number <"
                " (SELECT number FROM content WHERE gallery = ? AND id = ?)",
                (gallery, gallery, key_id),
            )

    def position(self, gallery: str) -> Position:
        """The newest version ever published, (0, 0) before the first."""
        found = self._one("SELECT epoch, version FROM position WHERE gallery = ?", gallery)
        return (int(found[0]), int(found[1])) if found else (0, 0)

    def heard(self, gallery: str, position: Position) -> None:
        """Somebody trustworthy knows of version *position*: the next one will be after it."""
        if position > self.position(gallery):
            with self._transaction() as db:
                db.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", (gallery, *position))

    def drafted(self, gallery: str) -> Position:
        """The newest version that may have been signed, in force or not; (0, 0) for none."""
        found = self._one("SELECT epoch, version FROM drafted WHERE gallery = ?", gallery)
        return (int(found[0]), int(found[1])) if found else (0, 0)

    def note_drafted(self, gallery: str, position: Position) -> None:
        """*position* is about to be signed, or was: no other content may ever have its number."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO drafted VALUES (?, ?, ?) ON CONFLICT (gallery) DO UPDATE SET"
                " epoch = excluded.epoch, version = excluded.version"
                " WHERE (excluded.epoch, excluded.version) > (epoch, version)",
                (gallery, *position),
            )

    def publishing(self) -> AbstractContextManager[None]:
        """Whoever is inside is alone with the galleries' next versions, on this machine."""
        return self._alone("publish.lock")

    def enrolling(self) -> AbstractContextManager[None]:
        """Whoever is inside is alone with who is enrolled: nobody else enrols or erases meanwhile.

        A file's lock, as such an act is over these keys and the database: no transaction holds for
        both, and everybody who can enrol has this directory. After ``publishing``, never before.
        """
        return self._alone("enrol.lock")

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._named():
            handle = os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with self._named():
                give_to_owner(handle, self.directory)  # a command as root, a service as another
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    # Enrolments made at devices.

    def enrolment_public(self) -> bytes:
        """The key that devices seal new enrolments to."""
        found = self._one("SELECT number, key FROM enrolment ORDER BY number DESC LIMIT 1")
        if found is None:
            self.new_enrolment(0)
            return self.enrolment_public()
        return public_key_of(self._opened(found[1], b"enrolment"))

    def enrolment_keys(self) -> dict[int, bytes]:
        """The private keys that may still be needed, by number, the newest first."""
        wanted = "SELECT number, key FROM enrolment ORDER BY number DESC"
        with self._named():
            rows = self._db.execute(wanted).fetchall()
        return {number: self._opened(key, b"enrolment") for number, key in rows}

    def new_enrolment(self, now_ms: int) -> None:
        """Begin another key for enrolments."""
        sealed = self._sealed(secrets.token_bytes(KEY_BYTES), b"enrolment")
        with self._transaction() as db:
            db.execute("UPDATE enrolment SET replaced_ms = ? WHERE replaced_ms IS NULL", (now_ms,))
            db.execute("INSERT INTO enrolment (key) VALUES (?)", (sealed,))

    def prune_enrolment(self, now_ms: int) -> None:
        """Destroy the keys that were replaced long ago; what was sealed to them opens no more.

        Who was erased is forgotten as soon as no key is left that an enrolment of theirs may have.
        """
        with self._transaction() as db:
            before_ms = now_ms - ENROLMENT_KEY_DAYS * _DAY_MS
            db.execute("DELETE FROM enrolment WHERE replaced_ms < ?", (before_ms,))
            db.execute("DELETE FROM erased WHERE number < (SELECT MIN(number) FROM enrolment)")

    # Where copies of this file are.

    def note_copy(self, path: Path, now_ms: int) -> None:
        """Remember that *path* is a copy of these keys as of now."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO copy VALUES (?, ?)", (str(path), now_ms))

    def forget_copy(self, path: Path) -> bool:
        """Whoever calls says that the copy at *path* is destroyed."""
        with self._transaction() as db:
            return db.execute("DELETE FROM copy WHERE path = ?", (str(path),)).rowcount > 0

    def copies(self) -> dict[Path, int]:
        """When each known copy was last brought up to date, Unix ms."""
        with self._named():
            rows = self._db.execute("SELECT path, at_ms FROM copy ORDER BY path").fetchall()
        return {Path(path): at_ms for path, at_ms in rows}
