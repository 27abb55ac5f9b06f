"""State that 4e2c240 wrote, the last version before rooms and Alembic, is opened and worked with.

Its own classes wrote what lies as SQL in ``4e2c240``, of made-up people, under the keys that tests
use everywhere; templates were left out and are made here, sealed by hand as that version sealed
them. The whole town, upgraded in either order, is ``scripts/upgrade-check``'s.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Boolean, MetaData, create_engine, text

from agent.base.errors import CityError
from agent.base.events import EnrolmentEvent
from agent.cityos.db.database import address, open_engine
from agent.cityos.events.store import Store
from agent.cityos.keys.keybackup import backup, restore
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.pki.claims import Issued, Refused, Registry
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.residents import Residents
from agent.cityos.usecases import steering, upkeep
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.journal import Journal
from tests.cityos.conftest import database
from tests.cityos.database import database_of
from tests.events import EPOCH, OTHER_EPOCH, stored
from tests.journal.events import KEY, event, moment
from tests.recognition.people import PACK, RING, enroll, loaded, one, person_id, templates

__all__ = ["database"]  # a fixture
WRITTEN = Path(__file__).with_name("4e2c240")
JOURNAL_EPOCH = "13297704769b63e0bf4b73d69ca42c89"
CLAIM = "FTBY9-G80G0-9Z26H-CCXBG"
NOW = 1_800_000_000_000


def written(name: str, path: Path) -> Path:
    """The file *name* as that version left it."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript((WRITTEN / f"{name}.sql").read_text(encoding="utf-8"))
    return path


def test_a_journal_goes_on_where_it_was(tmp_path: Path) -> None:
    path = written("journal", tmp_path / "journal.db")
    journal, report = Journal.open_checked(path, KEY, now=moment())
    with journal:
        assert (report.damage, report.new_epoch) == ("", False)
        states = {entry.seq: entry.state for entry in journal.entries()}
        assert states == {
            **dict.fromkeys((1, 2, 3, 6), "acked"),
            **dict.fromkeys((7, 8, 9, 10, 11), "pending"),
            5: "quarantined",
        }
        assert [(gap.first, gap.last, gap.reason) for gap in journal.gaps()] == [(4, 4, "quota")]
        waiting = journal.pending(JOURNAL_EPOCH, 0, 100)
        assert [one.event for one in waiting[:-1]] == [event(n) for n in range(7, 11)]
        enrolled = waiting[-1].event
        assert isinstance(enrolled, EnrolmentEvent)
        assert enrolled.sealed == b"sealed for the city" * 3
        assert journal.append(event(12)).seq == 12
        assert journal.epoch == JOURNAL_EPOCH


def test_a_gallery_knows_whom_it_knew(tmp_path: Path) -> None:
    path = written("gallery", tmp_path / "gallery.db")
    with closing(sqlite3.connect(path)) as db, db:
        for number in (1, 2):
            add_templates(db, number)
    with Gallery(path, RING, PACK) as gallery:
        assert gallery.salvaged is None
        assert {(p.id, p.nickname) for p in gallery.people()} == {
            (person_id(1), "n1"),
            (person_id(2), "n2"),
        }
        found = loaded(gallery)
        for number in (1, 2):
            assert found[person_id(number)] == pytest.approx(one(templates(number)))
        assert gallery.verify().sound
        enroll(gallery, 4)
        assert gallery.revoke(person_id(1))
        assert set(loaded(gallery)) == {person_id(2), person_id(4)}


def add_templates(db: sqlite3.Connection, number: int) -> None:
    """Seal templates of the person *number* as that version did: AES-GCM under their own key."""

    def opened(key: bytes, sealed: bytes, what: bytes) -> bytes:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], what)

    wrap = RING.gallery_wrap_key()
    (sealed_map,) = db.execute("SELECT value FROM meta WHERE key = 'template_map'").fetchone()
    map_name = opened(wrap, sealed_map, b"template map").rpartition(b" ")[0]
    ref, wrapped = db.execute(
        "SELECT ref, wrapped_key FROM person WHERE rowid = ?", (number,)
    ).fetchone()
    key = opened(wrap, wrapped, b"key\0" + ref)
    for row in templates(number):
        nonce, what = (
            secrets.token_bytes(12),
            b"template\0" + ref + map_name + b"\0" + PACK.encode(),
        )
        sealed = nonce + AESGCM(key).encrypt(nonce, row.astype("<f4").tobytes(), what)
        db.execute("INSERT INTO template (ref, pack, sealed) VALUES (?, ?, ?)", (ref, PACK, sealed))


def test_a_registry_knows_who_was_revoked_and_takes_the_claims_it_gave(tmp_path: Path) -> None:
    path = written("registry", tmp_path / "registry.db")
    registry = Registry(tmp_path)
    states = {device.name: device.state for device in registry.devices(NOW)}
    assert states == {"bus-1": "active", "bus-2": "claimed", "bus-3": "revoked"}
    assert registry.revoked(NOW) == [("a3", NOW + 1)]
    assert registry.banned() == ["bus-3"]
    assert registry.serving("bus", NOW) == ["bus-1"]
    assert [str(place) for place, _ in registry.brokers()] == ["/etc/mosquitto/kaopass"]
    used = registry.use(CLAIM, "bus-2", "S2", "k2", NOW, lambda: Issued("a2", "pem", NOW + 9))
    assert used == Issued("a2", "pem", NOW + 9)
    assert isinstance(registry.renew("a3", "bus-3", "S3", NOW, lambda: used), Refused)
    registry.close()
    with closing(sqlite3.connect(path)) as db:  # what was not counted before is from now on
        assert db.execute("SELECT name FROM _sqlite_migrations").fetchall() == [("1_claims",)]


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[TownKeys]:
    found = keys_in(tmp_path / "keys", "keys")
    yield found
    found.close()


def keys_in(folder: Path, name: str) -> TownKeys:
    folder.mkdir(mode=0o700)
    (folder / "town-key").write_bytes(KEY)
    (folder / "town-key").chmod(0o600)
    written(name, folder / "keys.db")
    return TownKeys(folder, FileKeySource(folder))


def test_the_keys_open_and_their_copy_is_kept_up_to_date(keys: TownKeys, tmp_path: Path) -> None:
    anna, ben = keys.ref("anna"), keys.ref("ben")
    assert keys.residents().keys() == {anna, ben}
    assert keys.withdrawals() == {(ben, "bus"): NOW + 5}
    assert keys.is_erased(keys.ref("carl"), 0)
    assert keys.position("bus") == (1, 7)
    assert len(keys.gone(NOW)) == 3
    assert keys.copies() == {Path("/mnt/safe/keys.copy"): NOW + 7}
    assert len(keys.enrolment_public()) == 32
    copy = written("keys_copy", tmp_path / "keys.copy")
    keys.condemn(ben)
    keys.destroy([ben])
    assert backup(keys, copy, NOW) == 1
    restored = tmp_path / "restored"
    restored.mkdir(mode=0o700)
    (restored / "town-key").write_bytes(KEY)
    (restored / "town-key").chmod(0o600)
    restore(copy, restored)
    again = TownKeys(restored, FileKeySource(restored))
    assert again.residents() == keys.residents()
    assert again.residents().keys() == {anna}
    again.close()


def city_in(database: str, tmp_path: Path) -> None:
    """The city's database as that version left it, in either engine."""
    if "://" not in database:
        written("city", Path(database))
        return
    engine, tables = create_engine(address(database)), MetaData()
    with (
        closing(sqlite3.connect(written("city", tmp_path / "city.db"))) as source,
        engine.begin() as target,
    ):
        made = source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
        for (statement,) in made:  # that version gave both engines the same
            target.execute(text(statement))
        tables.reflect(target)
        for table in tables.sorted_tables:
            columns = [column.name for column in table.columns]
            chosen = source.execute(f"SELECT {', '.join(columns)} FROM {table.name}")  # noqa: S608
            for row in chosen.fetchall():
                values = {
                    column.name: bool(value) if isinstance(column.type, Boolean) else value
                    for column, value in zip(table.columns, row, strict=True)
                }
                target.execute(table.insert(), values)
    engine.dispose()


def test_the_citys_database_is_brought_up_to_date_and_everything_is_there(
    database: str, keys: TownKeys, tmp_path: Path
) -> None:
    city_in(database, tmp_path)
    with pytest.raises(CityError, match="older layout"):
        Store(database, create=False)
    store = Store(database)
    events = {(row["device"], row["seq"]): row for row in store.events()}
    assert set(events) == {("hall-1", 1), *(("bus-1", seq) for seq in (1, 2, 3, 6, 7))}
    first, was = events["bus-1", 1], stored(1).event
    assert (first["person"], first["kind"]) == (f"{1:064x}", "boarding")
    assert first["wall_ms"] == was.moment.wall_ms
    bus, hall = store.devices()
    assert (bus.name, bus.online, bus.connection, bus.epochs, bus.rejected) == (
        *("bus-1", True, 3, {EPOCH: 4}, 1),
    )
    assert (hall.name, hall.epochs) == ("hall-1", {OTHER_EPOCH: 1})
    assert [(row["seq"], row["code"]) for row in upkeep.quarantine(database_of(store))] == [
        (4, "bad_kind")
    ]
    assert [(each.command, each.state) for each in steering.commands(database_of(store))] == [
        ("ping", "waiting")
    ]
    (version,) = steering.settings_of(database_of(store), "bus-1")
    assert (version.settings, version.state) == ({"place": {"repeat_seconds": 5}}, "waiting")
    store.close()
    engine = open_engine(database, create=False)
    residents = Residents(engine, keys)
    assert {(found.profile.id, found.profile.nickname) for found in residents.all()} == {
        ("anna", "nn"),
        ("ben", ""),
    }
    assert residents.get("ben").profile.consents[0].withdrawn_ms == NOW + 5
    Eraser(residents).erase("anna", NOW + 10, lambda: None)
    assert [found.profile.id for found in residents.all()] == ["ben"]
    engine.dispose()
