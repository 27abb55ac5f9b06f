"""Every kind of SQLite file this project keeps, with what its owner does to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from agent.base.errors import CityError, GalleryError, JournalError, KaopassError
from agent.cityos.events.store import Arrival, Store
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.claims import Registry
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.journal import Journal
from tests.events import EPOCH, stored
from tests.journal.events import KEY, event, moment
from tests.recognition.people import NOW_MS, PACK, RING, person_id, templates


@dataclass(frozen=True)
class Owned:
    """A kind of file below a folder. ``write(owner, n)`` adds one thing, ``count`` tells how many.

    ``rescued``: a damaged one is set aside and service goes on; else ``remedy`` is in the error.
    """

    file: str
    error: type[KaopassError]
    open: Callable[[Path], Any]
    write: Callable[[Any, int], object]
    count: Callable[[Any], int]
    db: Callable[[Any], sqlite3.Connection]  # what the owner works with
    remedy: str = ""

    @property
    def rescued(self) -> bool:
        return not self.remedy

    def made(self, folder: Path, count: int) -> Path:
        """A file with *count* things in it."""
        owner = self.open(folder)
        for number in range(count):
            self.write(owner, number)
        owner.close()
        return folder / self.file

    def counted(self, folder: Path) -> int:
        owner = self.open(folder)
        try:
            return self.count(owner)
        finally:
            owner.close()


def _pooled(store: Store) -> sqlite3.Connection:
    """The one connection there is while nobody else asks for one."""
    with store.engine.connect() as db:
        return cast("sqlite3.Connection", db.connection.dbapi_connection)


def _arrive(store: Store, number: int) -> None:
    store.commit({("bus-1", EPOCH): Arrival({number + 1: stored(number + 1)})}, 1_000)


KINDS = {
    "journal": Owned(
        "journal.db",
        JournalError,
        lambda at: Journal.open_checked(at / "journal.db", KEY, now=moment())[0],
        lambda journal, number: journal.append(event(number)),
        lambda journal: len(list(journal.entries())),
        lambda journal: journal._db._connection,
    ),
    "gallery": Owned(
        "gallery.db",
        GalleryError,
        lambda at: Gallery(at / "gallery.db", RING, PACK),
        lambda gallery, number: gallery.enroll(person_id(number), templates(number), now_ms=NOW_MS),
        lambda gallery: len(gallery.people()),
        lambda gallery: gallery.store.db.conn,
    ),
    "registry": Owned(
        "registry.db",
        CityError,
        Registry,
        lambda registry, n: registry.claim(f"bus-{n}", "S1", 1, NOW_MS, lambda: None),
        lambda registry: len(registry.devices(NOW_MS)),
        lambda registry: registry._db,
        remedy="the newest copy of it in its place",
    ),
    "keys": Owned(
        "keys/keys.db",
        CityError,
        lambda at: TownKeys(at / "keys", FileKeySource(at / "keys")),
        lambda keys, number: keys.new_residents([keys.ref(f"p{number}")]),
        lambda keys: len(keys.residents()),
        lambda keys: keys._db,
        remedy="kaopass city keys restore FILE",
    ),
    "city": Owned(
        "city.db",
        CityError,
        lambda at: Store(str(at / "city.db")),
        _arrive,
        lambda store: store.event_count(),
        _pooled,
        remedy="put a backup in its place",
    ),
}
