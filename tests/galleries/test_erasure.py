"""Whoever is erased is gone from every file, or left as noise that no remaining key opens."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import create_engine, delete, select, text

from agent.base.errors import CityError, UsageError
from agent.base.events import Moment, Passage, PassageEvent, Place, StoredEvent
from agent.cityos.db.database import address
from agent.cityos.db.schema import ERASURE, EVENT, MEMBER, RESIDENT, TEMPLATE
from agent.cityos.events.store import Arrival, Store
from agent.cityos.galleries import receipts
from agent.cityos.keys.keybackup import backup, restore
from agent.cityos.keys.townkeys import TownKeys
from agent.cityos.residents.erasing import Eraser
from agent.cityos.residents.profiles import Seal
from agent.cityos.residents.residents import Residents
from agent.cityos.usecases import upkeep
from agent.hw.keystores.file import FileKeySource
from agent.protocol.galleries.records import decode_record, key_of
from tests.cityos.database import database_of
from tests.galleries.conftest import PACK, City, faces, noting, now_ms, seed_of

ANNA, NICKNAME = "resident-anna-5521", "nickname-of-anna"


def traces(city: City) -> dict[str, bytes]:
    """Everything of Anna in the forms it ever had: searched for in raw files."""
    own = city.residents.own.apply(faces(2, seed_of(ANNA)))
    found = {
        "id": ANNA.encode(),
        "id in UTF-16": ANNA.encode("utf-16-le"),
        "nickname": NICKNAME.encode(),
        "key in galleries": key_of(ANNA),
        "key in hexadecimal": key_of(ANNA).hex().encode(),
        "template": own[0].tobytes()[:64],
        "template, half precision": own[0].astype("<f2").tobytes()[:64],
        "plain embedding": faces(2, seed_of(ANNA))[0].tobytes()[:64],
    }
    for name, pseudonym in city.residents.pseudonyms(ANNA).items():
        found[f"pseudonym {name}"] = pseudonym.encode()
    return found


def seen(folder: Path, wanted: dict[str, bytes]) -> set[str]:
    """Which of *wanted* is in any file below *folder*."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            found |= {
                f"{name} in {path.name}" for name, bytes_ in wanted.items() if bytes_ in content
            }
    return found


def boarding(city: City, seq: int) -> StoredEvent:
    pseudonym = city.residents.pseudonyms(ANNA)["bus"]
    place = Place("bus", "bus-7", "front", "stop-1")
    moment = Moment("boot", seq, 1_800_000_000_000 + seq, "ntp", 10)
    return StoredEvent(
        "epoch", seq, PassageEvent(Passage.BOARDING, "bus", pseudonym, place, moment)
    )


@pytest.fixture
def anna(city: City) -> City:
    """A town with Anna in both galleries, on a device, and with two events."""
    city.enrol([ANNA], "bus", "hall", nickname=NICKNAME)
    city.enrol([f"p{n}" for n in range(30)])
    store = Store(city.database)
    arrival = Arrival(events={seq: boarding(city, seq) for seq in (1, 2)})
    store.commit({("bus-7", "epoch"): arrival}, now_ms())
    store.close()
    city.publish("bus")
    city.publish("hall")
    return city


def receipt_of(city: City, receipt: str) -> tuple[dict[str, object], dict[str, int | None]]:
    serving = {name: city.registry.serving(name, now_ms()) for name in ("bus", "hall")}
    with city.engine.connect() as db:
        found = receipts.erasure(db, receipt, serving)
    assert found is not None
    _, since, applied = found
    return dict(since), {each.device: each.at_ms for each in applied}


def test_an_erasure_reaches_devices_and_they_say_so(anna: City) -> None:
    city = anna
    online, away, hall = city.device("bus-1"), city.device("bus-2"), city.device("hall-1", "hall")
    city.talk(online, away, hall)
    assert ANNA in online.ids & away.ids & hall.ids
    receipt = city.erase(ANNA)
    since, applied = receipt_of(city, receipt)
    assert since == {"bus": None, "hall": None}
    city.publish("bus")
    city.publish("hall")
    city.talk(online, hall, greet=False)
    since, applied = receipt_of(city, receipt)
    assert since == {"bus": (1, 2), "hall": (1, 2)}
    assert applied["bus-1"] is not None
    assert applied["hall-1"] is not None
    assert applied["bus-2"] is None
    assert ANNA not in online.ids | hall.ids
    city.talk(away)
    assert ANNA not in away.ids
    assert receipt_of(city, receipt)[1]["bus-2"] is not None


def test_once_every_device_knows_not_even_the_tombstone_stays(anna: City) -> None:
    city = anna
    devices = [city.device("bus-1"), city.device("bus-2")]
    city.talk(*devices)
    city.erase(ANNA)
    city.publish("bus")
    tombstones = select(MEMBER).where(MEMBER.c.gallery == "bus", MEMBER.c.digest.is_(None))
    city.talk(devices[0])
    tidy = city.worker(chores=True)._chores[1]
    tidy(now_ms())
    with city.engine.connect() as db:
        (row,) = db.execute(tombstones).all()
    ref = bytes(row.ref)
    assert ref != city.keys.ref(ANNA)
    key = city.keys.resident(ref)
    assert key is not None
    assert Seal(key, ref).open(bytes(row.wire), "wire") == key_of(ANNA)
    city.talk(devices[1])
    tidy(now_ms() + 60_000)
    with city.engine.connect() as db:
        assert db.execute(tombstones).all() == []


def test_nothing_of_an_erased_resident_opens_and_their_events_are_nobodys(anna: City) -> None:
    city = anna
    ref = city.keys.ref(ANNA)
    with city.engine.connect() as db:
        sealed = bytes(
            db.execute(select(RESIDENT.c.profile).where(RESIDENT.c.ref == ref)).scalar_one()
        )
    key = city.keys.resident(ref)
    assert key is not None
    assert Seal(key, ref).open_profile(sealed).id == ANNA  # so that the test can fail
    city.erase(ANNA)
    assert city.keys.resident(ref) is None
    with city.engine.connect() as db:
        for table in (RESIDENT, TEMPLATE, MEMBER):
            assert db.execute(select(table).where(table.c.ref == ref)).all() == []
        people = db.execute(select(EVENT.c.person).where(EVENT.c.device == "bus-7")).scalars().all()
    assert people == ["", ""]
    with pytest.raises(CityError, match="nobody is enrolled"):
        city.residents.get(ANNA)
    # A device that repeats an event is still in order, and a late one becomes nobody's, too.
    store = Store(city.database)
    late = {seq: boarding(city, seq) for seq in (1, 2, 3)}
    acks = store.commit({("bus-7", "epoch"): Arrival(events=late)}, now_ms())
    assert acks["bus-7", "epoch"].upto == 3
    assert not acks["bus-7", "epoch"].nack
    store.close()
    assert city.eraser.forget_events(now_ms()) == 1
    assert city.eraser.forget_events(now_ms()) == 0


def test_raw_files_and_copies_made_before_hold_nothing_that_opens(tmp_path: Path) -> None:
    city = City(tmp_path, str(tmp_path / "city.db"))
    city.enrol([ANNA], "bus", "hall", nickname=NICKNAME)
    city.enrol([f"p{n}" for n in range(30)])
    store = Store(city.database)
    arrival = Arrival(events={seq: boarding(city, seq) for seq in (1, 2)})
    store.commit({("bus-7", "epoch"): arrival}, now_ms())
    city.publish("bus")
    city.publish("hall")
    wanted = traces(city)
    # Only what is not sealed can be found; the search finds it, so it would find the rest.
    pseudonym = {name for name in seen(tmp_path, wanted) if name.startswith("pseudonym bus")}
    assert pseudonym
    assert seen(tmp_path, wanted) == pseudonym
    (tmp_path / "plain.txt").write_bytes(b"x" + ANNA.encode())
    assert "id in plain.txt" in seen(tmp_path, wanted)
    (tmp_path / "plain.txt").unlink()
    copies = tmp_path / "copies"
    copies.mkdir()
    upkeep.backup(database_of(store), str(copies / "before.db"))
    store.close()
    backup(city.keys, copies / "keys.copy", now_ms())
    resident_key = city.keys.resident(city.keys.ref(ANNA))
    wrapped = wrapped_key(city.keys.path, city.keys.ref(ANNA))
    assert resident_key is not None
    assert wrapped in city.keys.path.read_bytes()
    assert wrapped in (copies / "keys.copy").read_bytes()

    city.erase(ANNA)
    assert backup(city.keys, copies / "keys.copy", now_ms()) == 1
    city.publish("bus")
    city.publish("hall")
    found = seen(tmp_path, wanted | {"wrapped key": wrapped, "key": resident_key})
    # A copy of the database made before has the pseudonym of the events, and says so in its name.
    assert found == {"pseudonym bus in before.db"} | remembered(found)
    # Nobody holding every file that is left opens what the old copy has of her.
    old = sqlite3.connect(copies / "before.db")
    ref = city.keys.ref(ANNA)
    (profile,) = old.execute("SELECT profile FROM resident WHERE ref = ?", (ref,)).fetchone()
    rows = old.execute("SELECT rows FROM template WHERE ref = ?", (ref,)).fetchall()
    members = old.execute("SELECT record, wire FROM member WHERE ref = ?", (ref,)).fetchall()
    assert len(rows) == 1
    assert len(members) == 2
    left = [*city.keys.residents().values(), *copied_keys(city, copies / "keys.copy")]
    for key in left:
        seal = Seal(key, ref)
        for sealed, what in [
            (profile, "profile"),
            (rows[0][0], f"templates {PACK}"),
            *((record, f"record {name}") for record, _ in members for name in ("bus", "hall")),
            *((wire, "wire") for _, wire in members),
        ]:
            with pytest.raises(CityError):
                seal.open(sealed, what)
    assert Seal(resident_key, ref).open_profile(profile).id == ANNA  # so that the test can fail
    old.close()
    city.close()
    city.registry.close()


def wrapped_key(path: Path, ref: bytes) -> bytes:
    db = sqlite3.connect(path)
    (key,) = db.execute("SELECT key FROM resident WHERE ref = ?", (ref,)).fetchone()
    db.close()
    assert isinstance(key, bytes)
    return key


def copied_keys(city: City, copy: Path) -> list[bytes]:
    db = sqlite3.connect(copy)
    rows = db.execute("SELECT ref, key FROM resident").fetchall()
    db.close()
    return [city.keys._opened(key, b"resident\0" + ref) for ref, key in rows]


def remembered(found: set[str]) -> set[str]:
    """Pseudonyms are kept for a month, so that late events can be made nobody's: in the keys."""
    return {name for name in found if name.startswith("pseudonym") and "keys" in name}


def test_what_postgresql_leaves_behind_is_ciphertext(anna: City) -> None:
    city = anna
    if city.engine.dialect.name != "postgresql":
        assert seen(city.folder, {"id": ANNA.encode()}) == set()  # SQLite's files: see above
        return
    wanted = traces(city)
    files = PostgresFiles(city.database)
    assert any(name.startswith("pseudonym bus") for name in files.seen(wanted))
    city.erase(ANNA)
    city.publish("bus")
    assert {name for name in files.seen(wanted) if not name.startswith("pseudonym bus")} == set()
    files.close()


class PostgresFiles:
    """The table files of one database, as they lie on the disk."""

    def __init__(self, database: str) -> None:
        self._engine = create_engine(address(database))

    def close(self) -> None:
        self._engine.dispose()

    def seen(self, wanted: dict[str, bytes]) -> set[str]:
        found = set()
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(text("CHECKPOINT"))
            for table in ("resident", "template", "member", "draft", "event", "erasure", "held"):
                path = db.execute(text(f"SELECT pg_relation_filepath('{table}')")).scalar_one()
                raw = db.execute(
                    text("SELECT pg_read_binary_file(:path)"), {"path": path}
                ).scalar_one()
                found |= {f"{n} in {table}" for n, value in wanted.items() if value in bytes(raw)}
        return found


def test_an_erasure_goes_on_after_a_cut(anna: City) -> None:
    city = anna
    device = city.device("bus-1")
    city.talk(device)
    city.keys.mark_gone(city.residents.pseudonyms(ANNA).values(), now_ms() + 10**9)
    city.keys.condemn(city.keys.ref(ANNA))  # and the power is cut here
    with pytest.raises(CityError, match="nobody is enrolled"):
        city.residents.get(ANNA)
    Eraser(Residents(city.engine, city.keys))
    assert city.keys.condemned() == []
    city.publish("bus")
    city.talk(device)
    assert ANNA not in device.ids
    assert len(device.ids) == 30


def test_a_version_published_after_a_cut_ends_the_erasure_first(anna: City) -> None:
    """By a city side that was running all the time: devices are told, and the receipt is kept."""
    city = anna
    city.keys.mark_gone(city.residents.pseudonyms(ANNA).values(), now_ms() + 10**9)
    city.keys.condemn(city.keys.ref(ANNA))  # and the process is killed here
    city.publish("bus")
    assert city.keys.condemned() == []
    with city.engine.connect() as db:
        noted = db.execute(select(ERASURE.c.gallery, ERASURE.c.version)).all()
    assert {(row.gallery, row.version) for row in noted} == {("bus", 2), ("hall", None)}


def test_nobody_is_enrolled_under_a_key_that_would_not_be_kept(anna: City) -> None:
    city = anna
    ref = city.keys.ref(ANNA)
    city.keys.condemn(ref)
    with city.engine.begin() as db:  # the process was killed after this, before the key went
        for table in (RESIDENT, TEMPLATE, MEMBER):
            db.execute(delete(table).where(table.c.ref == ref))
    with pytest.raises(CityError, match="begun and not ended"):
        city.enrol([ANNA])
    Eraser(city.residents)
    city.enrol([ANNA])
    assert city.residents.get(ANNA).profile.id == ANNA


class CutAfterDestroying(TownKeys):
    """The power goes the moment a resident's key has gone."""

    def destroy(self, refs: Sequence[bytes]) -> None:
        super().destroy(refs)
        raise CityError("the power was cut")


def test_the_keys_of_galleries_and_enrolments_change_before_the_erasure_is_over(anna: City) -> None:
    city = anna
    before = city.keys.enrolment_public(), city.keys.content("bus")[0], city.keys.content("hall")[0]
    folder = city.folder / "keys"
    keys = CutAfterDestroying(folder, FileKeySource(folder))
    with pytest.raises(CityError, match="cut"):
        Eraser(Residents(city.engine, keys)).erase(ANNA, now_ms(), noting)
    keys.close()
    assert city.keys.condemned() == []  # nothing would go on
    after = city.keys.enrolment_public(), city.keys.content("bus")[0], city.keys.content("hall")[0]
    assert not set(before) & set(after)


def test_every_device_gets_the_new_enrolment_key_after_an_erasure(city: City) -> None:
    city.enrol(["anna"], "bus")
    city.enrol(["ben"], "hall")
    bus, hall = city.device("bus-1"), city.device("hall-1", "hall")
    city.publish("bus")
    city.publish("hall")
    city.talk(bus, hall)
    city.erase("anna")
    assert city.publisher.is_due("hall", now_ms())
    city.publish("bus")
    city.publish("hall")
    city.talk(bus, hall)
    for device in (bus, hall):
        assert device.keys is not None
        assert device.keys.enrolment == city.keys.enrolment_public()


def test_somebody_erased_can_come_again(anna: City) -> None:
    city = anna
    device = city.device("bus-1")
    city.talk(device)
    city.erase(ANNA)
    city.enrol([ANNA], "bus")
    city.publish("bus")
    city.talk(device)
    assert ANNA in device.ids
    assert decode_record(device.records[key_of(ANNA)]).nickname == ""


def test_keys_of_another_time_or_town_change_nothing(tmp_path: Path) -> None:
    city = City(tmp_path, str(tmp_path / "city.db"))
    city.enrol([f"p{n}" for n in range(60)])
    city.publish()
    city.close()
    (tmp_path / "keys").rename(tmp_path / "lost")
    with pytest.raises(CityError, match="is new, but the database holds 60 residents"):
        city.open()
    # Another town's, which holds keys of its own residents.
    city.keys.new_residents([city.keys.ref("somebody")])
    city.close()
    city.open()
    with pytest.raises(CityError, match="are they the right ones"):
        city.publish()
    city.close()
    for file in (tmp_path / "keys").iterdir():
        file.unlink()
    (tmp_path / "lost/keys.db").rename(tmp_path / "keys/keys.db")
    with pytest.raises(CityError, match="no 'town-key'"):
        city.open()
    (tmp_path / "keys/town-key").write_bytes(bytes(32))
    (tmp_path / "keys/town-key").chmod(0o600)
    with pytest.raises(CityError, match="another 'town-key'"):
        city.open()
    (tmp_path / "lost/town-key").rename(tmp_path / "keys/town-key")
    city.open()
    assert len(list(city.residents.all())) == 60
    city.close()
    city.registry.close()


def test_an_empty_database_in_the_wrong_place_empties_no_gallery(tmp_path: Path) -> None:
    city = City(tmp_path, str(tmp_path / "city.db"))
    city.enrol(["anna"])
    city.publish()
    city.close()
    city.database = str(tmp_path / "other.db")
    city.open()
    with pytest.raises(CityError, match="is it the right one"):
        city.publish()
    city.close()
    city.registry.close()


def test_lost_keys_come_back_from_their_copy(tmp_path: Path) -> None:
    city = City(tmp_path, str(tmp_path / "city.db"))
    city.enrol(["anna", "ben"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    copy = tmp_path / "keys.copy"
    assert backup(city.keys, copy, now_ms()) == 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert city.keys.copies().keys() == {copy}
    city.close()
    with pytest.raises(UsageError, match="never put over"):
        restore(copy, tmp_path / "keys")
    (tmp_path / "keys/keys.db").unlink()
    restore(copy, tmp_path / "keys")
    city.open()
    assert {each.profile.id for each in city.residents.all()} == {"anna", "ben"}
    assert city.publisher.is_due("bus", now_ms())  # its content key was not in the copy
    city.publish()
    city.talk(device)
    assert device.have == (1, 2)
    assert device.ids == {"anna", "ben"}
    with pytest.raises(UsageError, match="no copy of these keys"):
        backup(city.keys, Path(city.database), now_ms())
    assert Path(city.database) not in city.keys.copies()
    city.close()
    city.registry.close()
