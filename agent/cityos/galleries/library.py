"""The bodies of a gallery's version, made when a device asks, encrypted once for all who ask."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, select

from agent.cityos.db.database import reading
from agent.cityos.db.schema import MEMBER
from agent.cityos.galleries.versions import latest, steady
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.residents.profiles import Seal
from agent.protocol.galleries.bodies import Change, Label, cut, encode_changes, seal

CACHE_BYTES = 64 * 1024 * 1024
_Key = tuple[str, int, int, str, int, str]


class Library:
    """Bodies as messages, the last ones kept in memory; any thread may ask. Raises CityError."""

    def __init__(self, engine: Engine, keys: TownKeys, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._engine = steady(engine)
        self._keys = keys
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[_Key, list[bytes]] = OrderedDict()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self.made = 0  # bodies that had to be made

    def latest(self, gallery: str) -> Row[Any] | None:
        """The version in force, None before the first."""
        with reading(self._engine) as db:
            return latest(db, gallery)

    def messages(self, release: Row[Any], kind: str, number: int) -> list[bytes]:
        """The messages of one body of *release*, none if another version is in force by now.

        *number* is the bucket, or the version that a delta leads to.
        """
        key = (
            *(release.gallery, release.epoch, release.version),
            *(kind, number, release.content_key),
        )
        with self._lock:
            found = self._cache.get(key)
            if found is not None:
                self._cache.move_to_end(key)
                return found
        made = self._made(release, kind, number)
        if made:
            self._keep(key, made)
        return made

    def _made(self, release: Row[Any], kind: str, number: int) -> list[bytes]:
        content = self._keys.content_of(release.gallery, bytes.fromhex(release.content_key))
        if content is None:
            return []
        if kind == "index":
            body = bytes(release.buckets)
        else:
            with reading(self._engine) as db:
                now = latest(db, release.gallery)
                if now is None or (now.epoch, now.version) != (release.epoch, release.version):
                    return []
                rows = _rows(db, release.gallery, kind, number)
            body = encode_changes(self._changes(release.gallery, rows))
        label = Label(
            gallery=release.gallery,
            epoch=release.epoch,
            version=number if kind == "delta" else release.version,
            kind=kind,
            number=number if kind == "bucket" else 0,
            key=bytes.fromhex(release.content_key),
        )
        self.made += 1
        return cut(label, seal(label, body, content))

    def _changes(self, gallery: str, rows: Sequence[Any]) -> list[Change]:
        keys = self._keys.some([bytes(row.ref) for row in rows])
        changes = []
        for row in rows:
            ref = bytes(row.ref)
            if ref not in keys:
                continue  # being erased just now: the next version says so
            own = Seal(keys[ref], ref)
            record = None if row.record is None else own.open(row.record, f"record {gallery}")
            changes.append(Change(own.open(row.wire, "wire"), record))
        return sorted(changes, key=lambda each: each.key)

    def _keep(self, key: _Key, made: list[bytes]) -> None:
        size = sum(map(len, made))
        with self._lock:
            if key in self._cache or size > self._cache_bytes:
                return
            self._cache[key] = made
            self._held_bytes += size
            while self._held_bytes > self._cache_bytes:
                _, oldest = self._cache.popitem(last=False)
                self._held_bytes -= sum(map(len, oldest))


def _rows(db: Connection, gallery: str, kind: str, number: int) -> Sequence[Any]:
    wanted = select(MEMBER.c.ref, MEMBER.c.wire, MEMBER.c.record).where(MEMBER.c.gallery == gallery)
    if kind == "bucket":
        wanted = wanted.where(MEMBER.c.bucket == number, MEMBER.c.digest.is_not(None))
    else:
        wanted = wanted.where(MEMBER.c.version == number)
    return db.execute(wanted).all()
