"""An enrolment at a device becomes a resident, or is refused and leaves the device again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, text, update

from agent.base.errors import CityError, ModelError
from agent.base.events import EnrolmentEvent, Moment, Place, StoredEvent
from agent.cityos.db.database import insert_for
from agent.cityos.db.schema import ENROLMENT, MEMBER, RESIDENT
from agent.cityos.events.enrolments import note
from agent.cityos.events.store import Store
from agent.cityos.galleries import receipts
from agent.cityos.keys.townkeys import ENROLMENT_KEY_DAYS
from agent.cityos.residents.faces import Threshold
from agent.cityos.residents.profiles import DAY_MS
from agent.cityos.residents.residents import Newcomer
from agent.cityos.service.chores import Tidy
from agent.cityos.usecases import upkeep
from agent.cityos.usecases.from_devices import settle_waiting
from agent.cli.city.common import thresholds
from agent.protocol.consent import Consent, EnrolmentRecord, seal_enrolment
from agent.protocol.galleries.records import Record, decode_record, key_of
from agent.recognition.protection import Protection
from tests.cityos.database import database_of
from tests.galleries.conftest import (
    NOTICES,
    PACK,
    VALUES,
    City,
    consents,
    faces,
    noting,
    now_ms,
    seed_of,
)
from tests.galleries.device import Device


def threshold(pack: str, templates: int, values: int) -> float:
    if pack != PACK or values != VALUES:
        raise ModelError(f"there is no model pack {pack!r} with {values} values")
    return 0.6


def given(*purposes: str) -> tuple[Consent, ...]:
    return tuple(NOTICES[purpose, "ja"].consent(now_ms()) for purpose in purposes)


def arrives(city: City, device: Device, person: str, seq: int = 1, **change: Any) -> None:
    """*person* is enrolled at *device*, and the event comes to the city."""
    assert device.keys is not None
    version = change.get("version", device.keys.template_version)
    own = Protection(device.keys.template, device.gallery, device.keys.template_version)
    rows = own.apply(faces(2, seed_of(change.get("face", person)), change.get("values", VALUES)))
    record = Record(person, (device.gallery,), change.get("nickname", ""), False, 0,
                    {change.get("pack", PACK): rows.astype("<f2").astype(np.float32)})  # fmt: skip
    enrolment = EnrolmentRecord(record, version, change.get("consents", given(device.gallery)))
    key = change.get("key", device.keys.enrolment)
    sealed = seal_enrolment(enrolment, change.get("name", device.name), key)
    event = EnrolmentEvent(
        device.gallery,
        "ab" * 32,
        Place(device.gallery, "bus-7", "front"),
        Moment("boot", seq, now_ms(), "ntp", 10),
        sealed,
    )
    with city.engine.begin() as db:
        note(db, insert_for(city.engine), device.name, [StoredEvent("epoch", seq, event)], now_ms())


@pytest.fixture
def bus(city: City) -> Device:
    city.enrol(["p0"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    return device


def settle(city: City, least: Threshold = threshold) -> dict[int, tuple[str, str]]:
    """What became of every enrolment, after the city has looked once more."""
    settle_waiting(city.parts, least, now_ms())
    with city.engine.connect() as db:
        rows = db.execute(select(ENROLMENT)).all()
    assert all((row.state == "new") == bool(row.sealed) for row in rows)
    return {row.seq: (row.state, row.reason) for row in rows}


def test_an_enrolment_comes_back_in_the_next_version(city: City, bus: Device) -> None:
    hall = city.device("hall-1", "hall")
    city.publish("hall")
    city.talk(hall)
    arrives(city, bus, "anna", nickname="A", consents=given("bus", "hall"))
    assert settle(city) == {1: ("taken", "")}
    assert city.publisher.is_due("bus", now_ms())
    city.publish("bus")
    city.publish("hall")
    city.talk(bus, hall)
    for device in (bus, hall):
        assert device.keys is not None
        record = decode_record(device.records[key_of("anna")])
        assert record.nickname == "A"
        probe = faces(1, seed_of("anna"))
        mapped = Protection(device.keys.template, device.gallery, 1).apply(probe)
        cosines = record.templates[PACK] @ mapped.T
        np.testing.assert_allclose(cosines, faces(2, seed_of("anna")) @ probe.T, atol=2e-3)
    profile = city.residents.get("anna").profile
    assert [each.source for each in profile.consents] == ["bus-1", "bus-1"]


def test_a_face_enrolled_under_another_id_is_refused(city: City, bus: Device) -> None:
    arrives(city, bus, "somebody-else", face="p0")
    assert settle(city) == {1: ("refused", "face_enrolled_under_another_id")}
    assert not city.residents.exists("somebody-else")


def test_a_refused_enrolment_leaves_the_device_by_the_next_version(city: City, bus: Device) -> None:
    arrives(city, bus, "somebody-else", face="p0")
    bus.records[key_of("somebody-else")] = b"provisional"
    settle(city)
    assert city.publisher.is_due("bus", now_ms())
    published = city.publish()
    assert published is not None
    assert (published.changed, published.head.count) == (1, 1)
    city.talk(bus)
    assert bus.records.keys() == {key_of("p0")}


def test_another_face_under_an_id_that_is_taken_is_refused_and_the_device_put_right(
    city: City, bus: Device
) -> None:
    arrives(city, bus, "p0", face="stranger")
    bus.records[key_of("p0")] = b"provisional"
    assert settle(city) == {1: ("refused", "id_belongs_to_another_face")}
    city.publish()
    city.talk(bus)
    assert bus.ids == {"p0"}


def test_enrolling_again_renews_templates_and_consents_once(city: City, bus: Device) -> None:
    consents = given("bus", "statistics")
    arrives(city, bus, "p0", nickname="P", consents=consents)
    arrives(city, bus, "p0", 2, nickname="P", consents=consents)  # as after a cut
    assert settle(city) == {1: ("taken", ""), 2: ("taken", "")}
    profile = city.residents.get("p0").profile
    assert profile.nickname == "P"
    assert [each.consent.purpose for each in profile.consents][-2:] == ["bus", "statistics"]
    assert len(profile.consents) == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"consents": given("linking")}, "no_consent_to_a_gallery"),
        ({"name": "bus-2"}, "unreadable"),
        ({"key": bytes(range(32))}, "unreadable"),
        ({"version": 9}, "unknown_template_key"),
        ({"pack": "made-up"}, "unknown_model_pack"),
        ({"values": VALUES // 2}, "unknown_model_pack"),
    ],
)
def test_what_is_wrong_with_an_enrolment_is_said(
    city: City, bus: Device, change: dict[str, Any], reason: str
) -> None:
    arrives(city, bus, "anna", **change)
    assert settle(city) == {1: ("refused", reason)}
    assert not city.residents.exists("anna")


def test_a_revoked_device_enrols_nobody(city: City, bus: Device) -> None:
    arrives(city, bus, "anna")
    city.registry.revoke("bus-1", now_ms(), noting)
    assert settle(city) == {1: ("refused", "device_serves_no_gallery")}


def test_enrolments_sealed_before_the_key_changed_still_open(city: City, bus: Device) -> None:
    arrives(city, bus, "anna")
    old = bus.keys
    city.keys.new_enrolment(now_ms())
    city.keys.new_content("bus", rekey=True)
    city.publish()
    arrives(city, bus, "ben", 2)
    assert bus.keys is old
    assert settle(city) == {1: ("taken", ""), 2: ("taken", "")}
    city.talk(bus)
    city.publish()
    city.talk(bus)
    assert bus.ids == {"p0", "anna", "ben"}


def tidy(city: City, days: int) -> None:
    """What a running city side does by itself, *days* from now."""
    Tidy(city.parts)(now_ms() + days * DAY_MS)


def test_a_replaced_enrolment_key_is_destroyed_after_its_time_without_another_erasure(
    city: City, bus: Device
) -> None:
    arrives(city, bus, "anna")
    city.keys.new_enrolment(now_ms())
    tidy(city, ENROLMENT_KEY_DAYS - 1)
    assert len(city.keys.enrolment_keys()) == 2
    tidy(city, ENROLMENT_KEY_DAYS + 1)
    assert len(city.keys.enrolment_keys()) == 1
    assert settle(city) == {1: ("refused", "unreadable")}


def test_an_enrolment_from_before_an_erasure_brings_nobody_back(city: City, bus: Device) -> None:
    """Late, or repeated; but who comes again after it is welcome."""
    city.enrol(["anna"])
    city.publish()
    city.talk(bus)
    assert bus.keys is not None
    before = bus.keys.enrolment
    city.erase("anna")
    city.publish()
    city.talk(bus)
    arrives(city, bus, "anna", key=before)
    bus.records[key_of("anna")] = b"provisional"
    assert settle(city) == {1: ("refused", "erased_since")}
    assert not city.residents.exists("anna")
    city.publish()
    city.talk(bus)
    assert bus.ids == {"p0"}
    after = bus.keys.enrolment
    city.enrol(["ben"])
    city.erase("ben")  # another one: the key she uses is replaced, and good
    arrives(city, bus, "anna", 2, key=after)
    arrives(city, bus, "ben", 3, key=after)
    arrives(city, bus, "anna", 4, key=before)
    settled = settle(city)
    assert [settled[seq] for seq in (2, 3, 4)] == [
        ("taken", ""), ("refused", "erased_since"), ("refused", "erased_since")]  # fmt: skip
    # With the keys that could open such an enrolment goes the memory of who was erased.
    tidy(city, ENROLMENT_KEY_DAYS + 1)
    with city.keys._transaction() as keys:
        assert keys.execute("SELECT COUNT(*) FROM erased").fetchone()[0] == 0


def test_an_enrolment_waits_for_nobody_whose_erasure_was_begun(city: City, bus: Device) -> None:
    arrives(city, bus, "anna")
    assert settle(city) == {1: ("taken", "")}
    city.keys.condemn(city.keys.ref("anna"))  # and the power is cut here
    arrives(city, bus, "anna", 2)
    arrives(city, bus, "ben", 3)
    assert settle(city) == {
        1: ("taken", ""), 2: ("refused", "erased_since"), 3: ("taken", "")}  # fmt: skip


def test_a_consent_withdrawn_since_it_was_given_stays_withdrawn(city: City, bus: Device) -> None:
    city.enrol(["anna"], "bus", "hall")
    city.publish()
    earlier = given("bus", "hall")
    withdrawn_ms = earlier[0].given_ms + 1
    city.withdraw("anna", "bus", withdrawn_ms)
    city.publish()
    city.talk(bus)
    unset = tuple(replace(each, given_ms=0) for each in given("bus"))
    arrives(city, bus, "anna", consents=earlier[:1])
    arrives(city, bus, "anna", 2, consents=unset)
    arrives(city, bus, "anna", 3, consents=earlier)  # hall was not withdrawn
    refused = ("refused", "consent_withdrawn_since")
    assert settle(city) == {1: refused, 2: refused, 3: ("taken", "")}
    city.publish()
    city.talk(bus)
    assert bus.ids == {"p0"}
    again = tuple(replace(each, given_ms=withdrawn_ms + 1) for each in given("bus"))
    arrives(city, bus, "anna", 4, consents=again)
    assert settle(city)[4] == ("taken", "")
    city.publish()
    city.talk(bus)
    assert bus.ids == {"p0", "anna"}


def test_withdrawals_and_erasures_since_a_backup_hold_though_enrolments_come_again(
    tmp_path: Path,
) -> None:
    city = City(tmp_path, str(tmp_path / "city.db"))
    city.enrol(["p0"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    store = Store(city.database)
    upkeep.backup(database_of(store), str(tmp_path / "copy.db"))
    store.close()
    enrolled = [("anna", given("bus")), ("ben", given("bus")), ("chie", given("bus"))]
    assert device.keys is not None
    key = device.keys.enrolment

    def all_arrive() -> None:
        for seq, (person, told) in enumerate(enrolled, 1):
            arrives(city, device, person, seq, consents=told, key=key)

    all_arrive()
    assert set(settle(city).values()) == {("taken", "")}
    city.publish()
    city.talk(device)
    city.withdraw("ben", "bus", now_ms())
    city.erase("anna")
    city.publish()
    city.talk(device)
    assert device.ids == {"p0", "chie"}
    city.close()
    for name in ("city.db-wal", "city.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "copy.db").rename(tmp_path / "city.db")
    city.open()
    all_arrive()
    assert settle(city) == {
        1: ("refused", "erased_since"),
        2: ("refused", "consent_withdrawn_since"),
        3: ("taken", ""),
    }
    city.publish()
    city.talk(device)
    assert device.ids == {"p0", "chie"}
    city.close()
    city.registry.close()


@pytest.mark.parametrize("leaves", ["erased", "withdrawn"])
@pytest.mark.parametrize("before", ["never there", "gone for long"])
def test_who_leaves_before_the_first_version_leaves_the_device_that_enrolled_them(
    city: City, bus: Device, leaves: str, before: str
) -> None:
    if before == "gone for long":
        city.enrol(["anna"], "bus")
        city.publish()
        city.withdraw("anna", "bus", now_ms() - 1)
        city.publish()
        city.talk(bus)
        tidy(city, 0)
    arrives(city, bus, "anna")
    assert settle(city) == {1: ("taken", "")}
    bus.records[key_of("anna")] = b"provisional"
    if leaves == "erased":
        receipt = city.erase("anna")
        with city.engine.connect() as db:
            found = receipts.erasure(db, receipt, {"bus": ["bus-1"]})
        assert found is not None
        assert found[1] == {"bus": None}
    else:
        city.withdraw("anna", "bus", now_ms())
    assert city.publisher.is_due("bus", now_ms())
    published = city.publish()
    assert published is not None
    assert (published.changed, published.head.count) == (1, 1)
    city.talk(bus)
    assert bus.records.keys() == {key_of("p0")}
    if leaves == "erased":
        with city.engine.connect() as db:
            found = receipts.erasure(db, receipt, {"bus": ["bus-1"]})
        assert found is not None
        assert found[1] == {"bus": published.head.position}
        assert [each.at_ms is not None for each in found[2]] == [True]
    tidy(city, 0)  # and then nothing is left of it but the resident who is enrolled still
    with city.engine.connect() as db:
        rows = db.execute(select(MEMBER.c.version).where(MEMBER.c.digest.is_(None))).all()
    assert [row.version for row in rows] == ([] if leaves == "erased" else [0])
    assert (city.keys.resident(city.keys.ref("anna")) is None) == (leaves == "erased")


def test_an_enrolment_that_is_taken_is_one_change(city: City, bus: Device) -> None:
    arrives(city, bus, "anna")
    arrives(city, bus, "p0", 2, nickname="P")
    settle(city)
    published = city.publish()
    assert published is not None
    assert published.changed == 2
    city.talk(bus)
    assert decode_record(bus.records[key_of("p0")]).nickname == "P"
    assert bus.ids == {"p0", "anna"}


def test_one_enrolment_that_fails_in_whatever_way_holds_up_no_other(
    city: City, bus: Device, caplog: pytest.LogCaptureFixture
) -> None:
    city.enrol(["anna"])
    ref = city.keys.ref("anna")
    with city.engine.begin() as db:  # a row of hers is damaged
        db.execute(update(RESIDENT).where(RESIDENT.c.ref == ref).values(profile=bytes(64)))
    arrives(city, bus, "anna")
    arrives(city, bus, "evil", 2)
    arrives(city, bus, "ben", 3)

    def surprising(pack: str, templates: int, values: int) -> float:
        failing.append(pack)
        if len(failing) == 4:  # the second one's turn
            raise ValueError("matmul: evil")
        return threshold(pack, templates, values)

    failing: list[str] = []
    assert settle(city, surprising) == {
        1: ("refused", "unexpected_failure"),
        2: ("refused", "unexpected_failure"),
        3: ("taken", ""),
    }
    assert "ValueError" in caplog.text
    assert "evil" not in caplog.text


def test_trouble_with_the_database_refuses_nobody(city: City, bus: Device) -> None:
    arrives(city, bus, "anna")
    with city.engine.begin() as db:
        db.execute(text("ALTER TABLE resident RENAME TO elsewhere"))
    with pytest.raises(CityError):
        settle(city)
    with city.engine.begin() as db:
        db.execute(text("ALTER TABLE elsewhere RENAME TO resident"))
    assert settle(city) == {1: ("taken", "")}


def test_templates_of_another_size_already_enrolled_stop_neither_enrolments_nor_versions(
    city: City, bus: Device
) -> None:
    small = city.residents.own.apply(faces(1, 1, VALUES // 2))
    city.add([Newcomer("small", "", {PACK: small}, consents("bus"))])
    arrives(city, bus, "anna")
    assert settle(city) == {1: ("taken", "")}
    city.publish()
    city.talk(bus)
    assert bus.ids == {"p0", "small", "anna"}


def test_a_packs_threshold_is_for_templates_of_its_size_alone() -> None:
    least = thresholds()
    assert 0 < least("buffalo_s", 1000, 512) < 1
    with pytest.raises(ModelError, match="have 512"):
        least("buffalo_s", 1000, 32)
