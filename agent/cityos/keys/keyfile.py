"""The file that the town's keys are in: wrapped by the master key, and overwritten when deleted."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.base.errors import CityError, KeySourceError
from agent.base.ports import KeySource
from agent.base.sqlite import FileKind, connect, open_file, transaction
from agent.base.wholefile import create_file

if TYPE_CHECKING:
    from sqlite_utils import Database

MASTER = "town-key"
FILE = "keys.db"
KEY_BYTES = 32
_NONCE_BYTES = 12


def _keys(db: Database) -> None:
    # The tables may be there already: they were made before steps were recorded.
    for statement in (
        "CREATE TABLE IF NOT EXISTS resident (ref BLOB PRIMARY KEY, key BLOB NOT NULL,"
        " condemned INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS withdrawal (ref BLOB NOT NULL, purpose TEXT NOT NULL,"
        " at_ms INTEGER NOT NULL, PRIMARY KEY (ref, purpose)) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS gone (person TEXT PRIMARY KEY, until_ms INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS erased (ref BLOB PRIMARY KEY, number INTEGER NOT NULL)"
        " WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS position (gallery TEXT PRIMARY KEY, epoch INTEGER NOT"
        " NULL, version INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS drafted (gallery TEXT PRIMARY KEY, epoch INTEGER NOT"
        " NULL, version INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS enrolment (number INTEGER PRIMARY KEY, key BLOB NOT NULL,"
        " replaced_ms INTEGER)",
        "CREATE TABLE IF NOT EXISTS content (number INTEGER PRIMARY KEY, gallery TEXT NOT"
        " NULL, id BLOB NOT NULL, key BLOB NOT NULL, map INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS copy (path TEXT PRIMARY KEY, at_ms INTEGER NOT NULL)",
        "CREATE TABLE IF NOT EXISTS proof (value BLOB NOT NULL)",
    ):
        db.execute(statement)


KEYS = FileKind(
    name="keys",
    error=CityError,
    remedy=(
        "with city serve stopped, move it aside and put it back from its copy:"
        " kaopass city keys restore FILE"
    ),
    steps={"1_keys": _keys},
    # Not WAL: a deleted key must be overwritten where it lies, and nowhere else lie.
    journal_mode="DELETE",
    synchronous="EXTRA",
)


class KeyFile:
    """Owner of ``keys.db`` in *directory*; several processes may, on one machine."""

    def __init__(self, directory: Path, source: KeySource) -> None:
        """*source* keeps the master key; it is made on first use, but not beside other keys."""
        self.directory = directory
        self.path = directory / FILE
        self._lock = threading.RLock()
        with self._named():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._master = self._load_master(source)
            self._db = open_file(self.path, KEYS)
        self._wrap = AESGCM(self._derive("wrap"))
        self._index = self._derive("reference")
        try:
            self._prove()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"TownKeys({str(self.directory)!r})"

    def close(self) -> None:
        self._db.close()

    def _load_master(self, source: KeySource) -> bytes:
        try:
            found = source.load(MASTER)
            held = self.path.exists() and self.path.stat().st_size > 0
            if found is None and held:
                raise CityError(
                    f"{self.path} is there, but {source} has no {MASTER!r} to open it with: put it"
                    " back from its copy; without it nobody's data opens"
                )
            if found is None:
                # The file first: a master key without one means that it was lost.
                create_file(self.path)
                return source.create(MASTER)
            return found
        except KeySourceError as error:
            raise CityError(f"the town's keys: {error}") from error

    def proves(self, copy: Path) -> bool:
        """Whether the file *copy* was wrapped by this town's master key."""
        with self._named():
            try:
                with closing(connect(copy, KEYS, read_only=True)) as db:
                    found = db.execute("SELECT value FROM proof").fetchone()
            except sqlite3.Error:
                return False
        try:
            return found is not None and self._opened(found[0], b"proof") == b""
        except CityError:
            return False

    def _prove(self) -> None:
        """See at once that master key and file belong together."""
        found = self._one("SELECT value FROM proof")
        if found is not None:
            self._opened(found[0], b"proof")
            return
        with self._transaction() as db:
            db.execute("INSERT INTO proof VALUES (?)", (self._sealed(b"", b"proof"),))

    def _derive(self, purpose: str) -> bytes:
        info = f"kaopass/1 town {purpose}".encode()
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(self._master)

    def _sealed(self, value: bytes, what: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._wrap.encrypt(nonce, value, what)

    def _opened(self, sealed: bytes, what: bytes) -> bytes:
        try:
            return self._wrap.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], what)
        except InvalidTag as error:
            raise CityError(
                f"{self.path} was written under another {MASTER!r}, or is damaged: put both back"
                " from their copies"
            ) from error

    def _one(self, statement: str, *values: object) -> tuple[bytes, ...] | None:
        with self._named():
            found: tuple[bytes, ...] | None = self._db.execute(statement, values).fetchone()
            return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._named(), transaction(self._db):
            yield self._db

    def _named(self) -> AbstractContextManager[None]:
        return KEYS.named(self.path)
