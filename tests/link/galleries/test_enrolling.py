"""Enrolment where the gallery is the city's: with consent, journal first, for the city alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agent.base.errors import GalleryError, JournalError, UsageError
from agent.base.events import (
    EnrolmentEvent,
    Event,
    Moment,
    Passage,
    PassageEvent,
    Place,
    StoredEvent,
    person_of,
)
from agent.gallery.gallery import Gallery
from agent.journal import Journal
from agent.keys.pseudonym import Pseudonyms
from agent.protocol.consent import consent_fields, open_enrolment
from agent.recognition.fusion import fused
from agent.recognition.protection import Protection
from agent.usecases.enrolling import consents_in, consents_to, enroll_for_city
from agent.usecases.residents import Enrollee
from agent.usecases.subject import Places, erase, export
from tests.link.galleries.scripted.city import ScriptedCity, rows
from tests.link.galleries.scripted.device import NAME, RING, Device
from tests.protocol.town import Town

MOMENT = Moment("boot", 5, 1_800_000_000_000, "ntp", 5)
PLACE = Place("bus", "park-bus-1", "front")


def consents(*purposes: str, days: int = 0):  # type: ignore[no-untyped-def]
    return consents_to(
        purposes,
        controller="泉区",
        text_version="2026-10",
        language="ja",
        guardian=False,
        days=days,
        now_ms=MOMENT.wall_ms,
    )


@pytest.fixture
def city(town: Town) -> ScriptedCity:
    found = ScriptedCity(town)
    found.publish({"r-1": found.record("r-1", rows(1))})
    return found


@pytest.fixture
def device(tmp_path: Path, town: Town, city: ScriptedCity) -> Device:
    found = Device(tmp_path, town.trust, town.device(NAME))
    found.intake.connected(0)
    found.talk(city)
    return found


def enrol(device: Device, journal: Journal, name: str = "か\u3099", **more) -> StoredEvent:  # type: ignore[no-untyped-def]
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        return enroll_for_city(
            gallery,
            journal,
            Enrollee(name, rows(7), "はな"),
            more.get("consents", consents("bus", "linking", days=30)),
            device=NAME,
            place=PLACE,
            moment=MOMENT,
            pack="p",
            audit=None,
            actor="",
        )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db", RING.journal_key())


def test_the_city_gets_record_and_consents_and_the_door_knows_them_at_once(
    device: Device, city: ScriptedCity, journal: Journal
) -> None:
    stored = enrol(device, journal)
    (event,) = [s.event for s in journal.pending(journal.epoch, 0, 10)]
    assert isinstance(event, EnrolmentEvent)
    linked = Pseudonyms(lambda name: city.keys.pseudonyms[name]).of("が", "linked")
    assert event.person == linked
    found = open_enrolment(event.sealed, NAME, city.enrolment_key)
    assert (found.record.id, found.record.purposes, found.record.linked) == ("が", ("bus",), True)
    assert found.record.expires_ms == MOMENT.wall_ms + 30 * 86_400_000
    assert [c.purpose for c in found.consents] == ["bus", "linking"]
    mapped = Protection(city.keys.template, "bus", 1).apply(rows(7))
    assert np.abs(found.record.templates["p"] - mapped).max() < 1e-3
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        person = gallery.person("が")
        assert person is not None
        assert (person.source, person.linked, person.nickname) == ("provisional", True, "はな")
        assert gallery.census()[1].expires_ms == {"が": found.record.expires_ms}
        loaded = gallery.load(purpose="bus")
        own = loaded.matrix[loaded.owners == loaded.ids.index("が")]
        assert np.allclose(own, gallery.protection.apply(fused(rows(7))), atol=1e-5)
    assert stored.seq == 1


def test_without_consent_nobody_is_enrolled(device: Device, journal: Journal) -> None:
    with pytest.raises(UsageError, match="neither bus nor hall"):
        enrol(device, journal, consents=consents("statistics"))
    assert device.people() == {"r-1"}
    assert journal.stats().pending == 0


def test_consent_to_the_hall_alone_does_not_let_a_bus_know_them(
    device: Device, journal: Journal
) -> None:
    enrol(device, journal, consents=consents("hall"))
    assert device.people() == {"r-1"}
    assert journal.stats().pending == 1


def test_what_the_journal_does_not_take_is_not_enrolled(device: Device) -> None:
    class Full:
        def append(self, event: Event) -> StoredEvent:
            raise JournalError("journal: disk full")

    with pytest.raises(JournalError):
        enrol(device, Full())  # type: ignore[arg-type]
    assert device.people() == {"r-1"}


def test_before_the_city_gave_its_keys_nothing_can_be_sealed_to_it(
    tmp_path: Path, town: Town, journal: Journal
) -> None:
    fresh = Device(tmp_path / "fresh", town.trust, town.device(NAME))
    with pytest.raises(GalleryError, match="keys are not here yet"):
        enrol(fresh, journal)


def test_consent_records_in_a_file_are_read_or_refused() -> None:
    given = consents("bus", "hall")
    content = json.dumps([consent_fields(consent) for consent in given]).encode()
    assert consents_in(content) == given
    twice = json.dumps([consent_fields(given[0])] * 2).encode()
    for spoilt in (twice, b"[{}]", content.replace(b'"bus"', b'"tram"'), b"no"):
        with pytest.raises(UsageError):
            consents_in(spoilt)


def test_all_that_is_held_is_exported_and_erased_by_the_citys_pseudonyms_too(
    device: Device, city: ScriptedCity, journal: Journal, tmp_path: Path
) -> None:
    enrol(device, journal)
    old = Pseudonyms(RING.pseudonym_key).of("が", "bus")  # of the time before the city's gallery
    journal.append(PassageEvent(Passage.BOARDING, "bus", old, PLACE, MOMENT))
    citys = Pseudonyms(lambda name: city.keys.pseudonyms[name])
    for name, purpose in (("が", "bus"), ("が", "linked"), ("r-1", "bus")):
        person = citys.of(name, purpose)
        journal.append(PassageEvent(Passage.BOARDING, "bus", person, PLACE, MOMENT))
    journal.close()
    places = Places(NAME, RING, device.path, tmp_path / "journal.db", "p")
    held = export(places, "が", audit=None, actor="", now_ms=1)
    assert held["gallery"]["source"] == "provisional"
    assert len(held["events"]) == 4
    assert len(held["pseudonyms"]) == 4
    receipt = erase(places, "が", audit=None, actor="", now_ms=2)
    assert [item["file"] for item in receipt["erased"]] == ["gallery.db", "journal.db"]
    with Journal(tmp_path / "journal.db", RING.journal_key(), read_only=True) as rest:
        persons = [person_of(e.event) for e in rest.entries() if e.event]
    assert [p for p in persons if p == citys.of("r-1", "bus")] == persons[-1:]
    assert not {old, citys.of("が", "bus"), citys.of("が", "linked")} & set(persons)
