"""Versions hold exactly those who consented, change by deltas, and never go back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from agent.base.errors import CityError, UsageError
from agent.cityos.db.schema import HELD, RELEASE
from agent.cityos.events.store import Store
from agent.cityos.galleries import receipts
from agent.cityos.galleries.receipts import Applied
from agent.cityos.galleries.signing import HeadSigner
from agent.cityos.residents.profiles import CONSENT_DAYS, DAY_MS
from agent.cityos.residents.residents import Newcomer
from agent.cityos.usecases import upkeep
from agent.protocol.galleries.messages import Head, sign_head
from agent.protocol.galleries.records import decode_record, key_of
from agent.recognition.protection import Protection
from tests.cityos.database import database_of
from tests.galleries.conftest import PACK, City, consents, faces, now_ms, seed_of
from tests.galleries.device import Device
from tests.waiting import until


def test_a_gallery_holds_exactly_those_who_consented_to_its_purpose(city: City) -> None:
    city.enrol(["anna", "ben"], "bus", nickname="N")
    city.enrol(["chie"], "hall")
    city.enrol(["dai"], "bus", "hall", "linking")
    city.enrol(["emi"], "statistics")
    bus, hall = city.device("bus-1"), city.device("hall-1", "hall")
    assert city.publish("bus")
    assert city.publish("hall")
    city.talk(bus, hall)
    assert bus.ids == {"anna", "ben", "dai"}
    assert hall.ids == {"chie", "dai"}
    record = decode_record(bus.records[key_of("dai")])
    assert record.purposes == ("bus",)
    assert record.linked
    assert record.nickname == ""
    assert not decode_record(bus.records[key_of("anna")]).linked
    assert bus.fresh[-1].position == bus.have == (1, 1)


def test_templates_arrive_mapped_by_the_gallerys_key_with_every_cosine_as_it_was(
    city: City,
) -> None:
    city.enrol(["anna"], "bus", "hall")
    city.publish("bus")
    city.publish("hall")
    bus, hall = city.device("bus-1"), city.device("hall-1", "hall")
    city.talk(bus, hall)
    assert bus.keys is not None
    assert hall.keys is not None
    probe = faces(1, seed_of("anna"))
    kept = faces(2, seed_of("anna"))
    mapped = decode_record(bus.records[key_of("anna")]).templates[PACK]
    seen = Protection(bus.keys.template, "bus", 1).apply(probe)
    np.testing.assert_allclose(mapped @ seen.T, kept @ probe.T, atol=1e-3)
    other = decode_record(hall.records[key_of("anna")]).templates[PACK]
    assert float(np.abs(np.sum(mapped * other, axis=1)).max()) < 0.6  # as of strangers
    assert set(bus.keys.pseudonyms) == {"bus", "linked"}
    assert set(hall.keys.pseudonyms) == {"hall", "linked"}
    assert bus.keys.pseudonyms["linked"] == hall.keys.pseudonyms["linked"]


def test_nothing_is_published_when_nothing_changed(city: City) -> None:
    city.enrol(["anna"])
    first = city.publish()
    assert first is not None
    assert (first.head.epoch, first.head.version, first.head.count) == (1, 1, 1)
    assert city.publish() is None
    # A consent that this gallery does not serve changes nothing for its devices.
    city.consent("anna", "statistics")
    assert city.publisher.is_due("bus", now_ms())
    assert city.publish() is None
    assert not city.publisher.is_due("bus", now_ms())


def test_a_delta_brings_what_changed_and_takes_who_left(city: City) -> None:
    city.enrol([f"p{n}" for n in range(40)])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    before = device.body_bytes
    city.enrol(["new"])
    city.withdraw("p1", "bus", now_ms())
    city.withdraw("p2", "hall", now_ms())  # not this gallery's business
    published = city.publish()
    assert published is not None
    assert published.changed == 2
    city.talk(device)
    assert device.have == (1, 2)
    assert device.ids == {f"p{n}" for n in range(40) if n != 1} | {"new"}
    assert device.body_bytes - before < 2500
    city.consent("p1", "bus")  # who comes back
    city.publish()
    city.talk(device)
    assert "p1" in device.ids


def test_a_device_behind_by_many_versions_catches_up_either_way(city: City) -> None:
    city.enrol(["p0", "p1"])
    city.publish()
    slow, whole = city.device("bus-1"), city.device("bus-2", use_deltas=False)
    city.talk(slow, whole)
    for number in range(2, 7):
        city.enrol([f"p{number}"])
        city.withdraw(f"p{number - 1}", "bus", now_ms())
        city.publish()
    city.talk(slow, whole)
    assert slow.have == whole.have == (1, 6)
    assert slow.ids == whole.ids == {"p0", "p6"}
    assert slow.root == whole.root


def test_damage_at_a_device_is_repaired_by_the_buckets_that_differ(city: City) -> None:
    city.enrol([f"p{n}" for n in range(300)])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    snapshot = device.body_bytes
    del device.records[key_of("p7")]
    device.have, device.root, device.head = (0, 0), "", None
    city.talk(device)
    assert len(device.ids) == 300
    assert device.body_bytes - snapshot < snapshot / 5


def test_a_consent_lapses_by_itself(city: City) -> None:
    city.enrol(["anna", "ben"])
    city.publish()
    later = now_ms() + (CONSENT_DAYS + 1) * DAY_MS
    assert city.publisher.is_due("bus", later)
    published = city.publish(at_ms=later)
    assert published is not None
    assert published.head.count == 0
    assert published.head.position == (1, 2)


def test_the_head_is_renewed_before_it_ends(city: City) -> None:
    city.enrol(["anna"])
    first = city.publish()
    assert first is not None
    later = now_ms() + 16 * DAY_MS
    assert city.publisher.is_due("bus", later)
    renewed = city.publish(at_ms=later)
    assert renewed is not None
    assert renewed.head.root == first.head.root
    assert renewed.head.expires_ms > first.head.expires_ms


def test_a_version_prepared_here_is_put_in_force_only_with_the_towns_signature(city: City) -> None:
    city.enrol(["anna"])
    made = city.prepare()
    assert made is not None
    assert city.library.latest("bus") is None
    forged = replace(made.head, count=2)
    with pytest.raises(CityError, match="not what waits"):
        city.finish(city.sign(forged))
    with pytest.raises(CityError, match="cannot be put in force"):
        city.finish(sign_head(made.head, city.authority.signer("command")))
    city.finish(city.sign(made.head))
    release = city.library.latest("bus")
    assert release is not None
    assert release.root == made.head.root


def test_a_resident_who_changed_meanwhile_makes_a_prepared_version_void(city: City) -> None:
    city.enrol(["anna", "ben"])
    made = city.prepare()
    assert made is not None
    signed = city.sign(made.head)
    city.withdraw("anna", "bus", now_ms())
    with pytest.raises(CityError, match="has changed since"):
        city.finish(signed)
    made = city.prepare()
    assert made is not None
    signed = city.sign(made.head)
    city.erase("ben")
    with pytest.raises(CityError, match="has changed since"):
        city.finish(signed)


def test_another_template_key_takes_everybody_along(city: City) -> None:
    city.enrol([f"p{n}" for n in range(20)])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    assert device.keys is not None
    before, old = dict(device.records), device.keys
    city.keys.new_content("bus", rekey=True)
    published = city.publish()
    assert published is not None
    assert published.changed == 20
    city.talk(device)
    assert device.keys.template != old.template
    assert (device.keys.template_version, device.keys.content == old.content) == (2, False)
    assert len(device.ids) == 20
    one = key_of("p3")
    a = decode_record(before[one]).templates[PACK][0]
    b = decode_record(device.records[one]).templates[PACK][0]
    assert abs(float(a @ b)) < 0.6
    with pytest.raises(KeyError):
        _ = device.keys.pseudonyms["hall"]


def test_versions_long_replaced_are_forgotten_and_the_newest_never(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    city.enrol(["ben"])
    city.publish(at_ms=now_ms() + 1)
    later = now_ms() + 500 * DAY_MS
    city.publisher.prune(later)
    with city.engine.connect() as db:
        assert db.execute(select(RELEASE.c.version)).scalars().all() == [2]
        assert db.execute(select(HELD)).all() == []
    city.talk(device)
    assert device.ids == {"anna", "ben"}


def test_an_id_enrolled_already_is_refused_and_nobody_is_enrolled(city: City) -> None:
    city.enrol(["anna"])
    with pytest.raises(UsageError, match="already"):
        city.enrol(["ben", "anna"])
    with pytest.raises(UsageError, match="already"):
        city.enrol(["chie", "chie"])
    assert {resident.profile.id for resident in city.residents.all()} == {"anna"}


def test_two_spellings_of_one_id_are_one_resident(city: City) -> None:
    city.enrol(["が"])
    with pytest.raises(UsageError, match="already"):
        city.enrol(["か\u3099"])
    assert city.residents.get("か\u3099").profile.id == "が"


def test_a_restored_database_begins_a_new_epoch_and_brings_nobody_back(tmp_path: Path) -> None:
    city = City(tmp_path, str(tmp_path / "city.db"))
    city.enrol(["anna", "ben", "chie"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    store = Store(city.database)
    upkeep.backup(database_of(store), str(tmp_path / "copy.db"))
    store.close()
    city.erase("anna")
    city.withdraw("ben", "bus", now_ms())
    city.publish()
    city.talk(device)
    assert device.have == (1, 2)
    assert device.ids == {"chie"}
    city.close()
    for name in ("city.db-wal", "city.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(tmp_path / "city.db")
    city.open()
    assert city.publisher.is_due("bus", now_ms())
    published = city.publish()
    assert published is not None
    assert published.head.position == (2, 1)
    city.talk(device)
    assert device.have == (2, 1)
    assert device.ids == {"chie"}
    with pytest.raises(CityError, match="nobody is enrolled"):
        city.residents.get("anna")
    city.close()
    city.registry.close()


def test_a_device_that_knows_more_than_database_and_keys_makes_a_new_epoch(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    device.have, device.root = (3, 9), "00" * 32
    city.talk(device)
    assert not city.publisher.is_due("bus", now_ms())
    assert city.publisher.is_due("bus", now_ms() + 700_000)
    published = city.publish()
    assert published is not None
    assert published.head.position == (4, 1)


def test_a_newcomer_without_templates_is_in_no_gallery(city: City) -> None:
    city.add([Newcomer("anna", "", {}, consents("bus"))])
    published = city.publish()
    assert published is not None
    assert published.head.count == 0


def test_a_withdrawal_between_signing_and_putting_in_force_only_costs_a_number(city: City) -> None:
    """The signer remembers what it signed, so the number of a void version is never given again."""
    signer = HeadSigner(city.authority)
    city.enrol(["p0", "p1"])
    city.publish(sign=signer)
    device = city.device("bus-1")
    city.talk(device)
    city.enrol(["anna"])
    for version, gone in ((2, "p1"), (3, "anna")):
        made = city.prepare()
        assert made is not None
        assert made.head.position == (1, version)
        signed = signer(made.head)
        city.erase(gone)
        with pytest.raises(CityError, match="has changed since"):
            city.finish(signed)
    made = city.prepare()
    assert made is not None
    assert city.finish(signer(made.head)).position == (1, 4)
    city.talk(device)
    assert (device.have, device.ids) == ((1, 4), {"p0"})


def test_a_signed_file_that_was_lost_stops_nobody(city: City) -> None:
    signer = HeadSigner(city.authority)
    city.enrol(["anna"])
    made = city.prepare()
    assert made is not None
    signer(made.head)  # and the file never comes back
    city.erase("anna")
    city.enrol(["ben"])
    made = city.prepare()
    assert made is not None
    assert city.finish(signer(made.head)).position == (1, 2)
    device = city.device("bus-1")
    city.talk(device)
    assert device.ids == {"ben"}
    # Nor when nothing is left to publish in between, or the keys come back from an older copy.
    city.enrol(["chie"])
    made = city.prepare()
    assert made is not None
    lost = signer(made.head)
    city.erase("chie")
    city.prepare()
    with city.keys._transaction() as keys:
        keys.execute("DELETE FROM drafted")
    with pytest.raises(CityError, match="not what waits"):
        city.finish(lost)
    made = city.prepare(force=True)
    assert made is not None
    city.finish(signer(made.head))
    city.talk(device)
    assert device.ids == {"ben"}


def test_publishing_goes_on_though_residents_change_again_and_again_while_it_signs(
    city: City,
) -> None:
    signer = HeadSigner(city.authority)
    city.enrol(["p0"])
    city.publish(sign=signer)
    city.enrol(["anna", "ben", "chie"])
    leaving = ["anna", "ben"]

    def sign(head: Head) -> bytes:
        signed = signer(head)
        if leaving:
            city.withdraw(leaving.pop(), "bus", now_ms())
        return signed

    made = city.publish(sign=sign)
    assert made is not None
    assert (made.head.position, made.head.count) == ((1, 4), 2)
    device = city.device("bus-1")
    city.talk(device)
    assert device.ids == {"p0", "chie"}


@pytest.mark.slow
def test_of_what_devices_had_only_what_something_follows_from_is_kept(city: City) -> None:
    city.enrol(["p0", "anna", "ben"])
    city.publish()
    fast, slow = city.device("bus-1"), city.device("bus-2")
    receipt: dict[str, str] = {}

    def proved(*devices: Device) -> None:
        city.talk(*devices)
        said_ms = now_ms()
        until(lambda: now_ms() > said_ms)  # so that each report has a time of its own

    def shown() -> dict[str, list[Applied]]:
        with city.engine.connect() as db:
            found = {who: receipts.erasure(db, number, {"bus": ["bus-1", "bus-2"]})
                     for who, number in receipt.items()}  # fmt: skip
        return {who: each[2] for who, each in found.items() if each is not None}

    proved(fast, slow)
    for number in range(8):
        if number in (2, 5):
            who = "anna" if number == 2 else "ben"
            receipt[who] = city.erase(who)
        else:
            city.enrol([f"new{number}"])
        city.publish()
        proved(fast)
        if number % 3 == 0:
            proved(slow)
    before = shown()
    with city.engine.connect() as db:
        assert len(db.execute(select(HELD)).all()) == 9 + 4
        held = receipts.holdings(db, "bus")
    city.publisher.prune(now_ms() - 1000 * DAY_MS)
    with city.engine.connect() as db:
        rows = db.execute(select(HELD.c.device, HELD.c.version)).all()
        assert receipts.holdings(db, "bus") == held
    # The versions of both erasures and the newest; of the other the first it had after each.
    assert sorted(map(tuple, rows)) == [
        ("bus-1", 4), ("bus-1", 7), ("bus-1", 9), ("bus-2", 5), ("bus-2", 8)]  # fmt: skip
    assert shown() == before
    assert [each.at_ms is not None for each in before["anna"]] == [True, True]
    city.talk(fast, slow)
    assert slow.have == fast.have == (1, 9)
