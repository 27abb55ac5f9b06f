"""All that is held on one resident: handed out whole, erased whole, and nobody else's touched."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import unicodedata
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.base.errors import PersonError
from agent.base.events import (
    CorrectionEvent,
    EnrolmentEvent,
    EventRef,
    Moment,
    Passage,
    PassageEvent,
    Place,
    person_of,
)
from agent.base.values import Ack
from agent.gallery.file.sealing import GallerySealer
from agent.gallery.gallery import Gallery
from agent.journal import Journal
from agent.journal.erasure import erase as erase_events
from agent.journal.export import as_record
from agent.keys.pseudonym import Pseudonyms
from agent.keys.ring import KeyRing
from agent.usecases import subject
from agent.usecases.subject import Places, is_receipt
from tests.recognition.people import NOW_MS, PACK, RING, nickname, person_id, templates

export = partial(subject.export, audit=None, actor="")
erase = partial(subject.erase, audit=None, actor="")
PSEUDONYMS = Pseudonyms(RING.pseudonym_key)


def boarding(person: str, number: int, purpose: str = "bus") -> PassageEvent:
    moment = Moment("boot", number, NOW_MS + number, "ntp", 5)
    place = Place(purpose, "泉パークタウン7号", "front", "紫山三丁目")
    return PassageEvent(Passage.BOARDING, purpose, PSEUDONYMS.of(person, purpose), place, moment)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Three people enrolled; 1 and 2 board by turns, the first four events acknowledged."""
    found = Places("door-1", RING, tmp_path / "gallery.db", tmp_path / "journal.db", PACK)
    with Gallery(found.gallery, RING, PACK) as gallery:
        for number in (1, 2, 3):
            rows = gallery.protection.apply(templates(number, values=64))
            gallery.enroll(person_id(number), rows, nickname(number), now_ms=NOW_MS)
    with Journal(found.journal, RING.journal_key()) as journal:
        for number in range(8):
            purpose = "hall" if number == 2 else "bus"
            journal.append(boarding(person_id(1 + number % 2), number, purpose))
        journal.confirm(Ack(journal.epoch, 4, (), (), NOW_MS))
    return found


def bodies(places: Places, number: int) -> list[bytes]:
    """The sealed rows of a person's events."""
    own = {PSEUDONYMS.of(person_id(number), purpose) for purpose in ("bus", "hall")}
    with Journal(places.journal, RING.journal_key(), read_only=True) as journal:
        seqs = [e.seq for e in journal.entries() if e.event and person_of(e.event) in own]
    with closing(sqlite3.connect(places.journal)) as raw:
        rows = dict(raw.execute("SELECT seq, sealed FROM event"))
    return [rows[seq] for seq in seqs]


def on_disk(places: Places) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(places.gallery.parent.iterdir()))


def seqs(places: Places) -> list[int]:
    with Journal(places.journal, RING.journal_key(), read_only=True) as journal:
        return [entry.seq for entry in journal.entries()]


def test_an_export_is_all_that_is_held_and_no_template(places: Places) -> None:
    held = export(places, person_id(1), now_ms=NOW_MS)
    assert held["gallery"]["nickname"] == nickname(1)
    assert held["gallery"]["templates"]["count"] == {PACK: 3}
    assert [event["seq"] for event in held["events"]] == [1, 3, 5, 7]
    assert {event["stop"] for event in held["events"]} == {"紫山三丁目"}
    own = {item["purpose"]: item["pseudonym"] for item in held["pseudonyms"]}
    assert own == {p: PSEUDONYMS.of(person_id(1), p) for p in ("bus", "hall")}
    assert json.loads(json.dumps(held)) == held
    assert len(json.dumps(held)) < 6000  # three templates alone would be more


def test_an_export_has_the_corrections_of_their_events_and_an_erasure_leaves_them(
    places: Places,
) -> None:
    """They name nobody, and once the event is gone they are nobody's."""
    moment = boarding(person_id(1), 20).moment
    with Journal(places.journal, RING.journal_key()) as journal:
        for device, seq in ((places.device, 3), (places.device, 2), ("another", 3)):
            corrects = EventRef(device, journal.epoch, seq)
            journal.append(CorrectionEvent(corrects, "withdrawn", "undo", moment))
    held = export(places, person_id(1), now_ms=NOW_MS)
    assert [event["seq"] for event in held["events"]] == [1, 3, 5, 7, 9]
    assert held["events"][-1]["detail"]["corrects"]["seq"] == 3
    erase(places, person_id(1), now_ms=NOW_MS)
    assert seqs(places) == [2, 4, 6, 8, 9, 10, 11]


def test_erasing_takes_everything_of_one_person_and_nothing_of_others(places: Places) -> None:
    receipt = erase(places, person_id(1), now_ms=NOW_MS)
    with Gallery(places.gallery, RING, PACK) as gallery:
        assert [person.id for person in gallery.people()] == [person_id(2), person_id(3)]
        assert gallery.verify().sound
    assert seqs(places) == [2, 4, 6, 8]
    assert receipt["erased"] == [
        {"file": "gallery.db", "what": ["key", "profile", "templates"], "templates": 3},
        {
            "file": "journal.db",
            "what": ["events"],
            "events": 4,
            "not_yet_at_the_city": 2,
            "set_aside": [],
        },
    ]


def test_what_the_city_had_not_acknowledged_is_a_gap_not_a_loss(places: Places) -> None:
    erase(places, person_id(1), now_ms=NOW_MS)
    with Journal(places.journal, RING.journal_key()) as journal:
        gaps = [(gap.first, gap.last, gap.reason) for gap in journal.gaps()]
        assert gaps == [(5, 5, "erased"), (7, 7, "erased")]
        assert [e.seq for e in journal.pending(journal.epoch, 0, 9)] == [6, 8]
        assert journal.append(boarding(person_id(2), 9)).seq == 9


def test_nothing_of_the_erased_is_left_in_any_file(places: Places) -> None:
    """Not even sealed: neither in freed pages nor in the write-ahead logs."""
    ref = GallerySealer(RING).ref(person_id(1))
    with closing(sqlite3.connect(places.gallery)) as raw:
        key = raw.execute("SELECT wrapped_key FROM person WHERE ref = ?", [ref]).fetchone()[0]
        rows = [r[0] for r in raw.execute("SELECT sealed FROM template WHERE ref = ?", [ref])]
    traces = [ref, key, *rows, *bodies(places, 1)]
    assert len(traces) == 2 + 3 + 4
    assert all(trace[:32] in on_disk(places) for trace in traces)
    with Gallery(places.gallery, RING, PACK), Journal(places.journal, RING.journal_key()):
        # As beside a running agent, whose logs are open.
        erase(places, person_id(1), now_ms=NOW_MS)
        left = on_disk(places)
    assert not [trace for trace in traces if trace[:32] in left or trace[-32:] in left]
    assert all(body in left for body in bodies(places, 2))


def test_files_set_aside_after_damage_are_erased_too(places: Places) -> None:
    """What salvage keeps would open with the device key."""
    for path in (places.gallery, places.journal):
        shutil.copy(path, path.with_name(f"{path.name}.damaged-1"))
    ref = GallerySealer(RING).ref(person_id(1))
    with closing(sqlite3.connect(places.gallery)) as raw:
        key = raw.execute("SELECT wrapped_key FROM person WHERE ref = ?", [ref]).fetchone()[0]
    traces, others = [key, *bodies(places, 1)], bodies(places, 2)
    receipt = erase(places, person_id(1), now_ms=NOW_MS)
    assert receipt["erased"][1]["set_aside"] == ["journal.db.damaged-1"]
    left = on_disk(places)
    assert not [trace for trace in traces if trace in left]
    assert all(body in left for body in others)


@pytest.mark.slow
def test_an_enrolment_set_aside_is_erased_in_all_its_pieces(places: Places) -> None:
    """Its row spills over many pages, so its body lies nowhere in one piece."""
    sealed = random.Random(1).randbytes(40_000)
    event = boarding(person_id(1), 9)
    mine = EnrolmentEvent(event.purpose, event.person, event.place, event.moment, sealed)
    with Journal(places.journal, RING.journal_key()) as journal:
        journal.append(mine)
        journal.append(replace(mine, person=boarding(person_id(2), 9).person))
    shutil.copy(places.journal, places.journal.with_name("journal.db.damaged-1"))
    own, other = bodies(places, 1)[-1], bodies(places, 2)[-1]
    pieces = [own[at : at + 32] for at in range(0, len(own) - 32, 32)]
    before = on_disk(places)
    assert sum(piece in before for piece in pieces) > 1_200  # all but those cut by a page's end
    erase(places, person_id(1), now_ms=NOW_MS)
    left = on_disk(places)
    assert not [piece for piece in pieces if piece in left]
    assert sum(other[at : at + 32] in left for at in range(0, len(other) - 32, 32)) > 1_200


def test_a_receipt_is_this_devices_and_cannot_be_changed(places: Places) -> None:
    receipt = erase(places, person_id(1), now_ms=NOW_MS)
    assert is_receipt(RING, receipt)
    assert is_receipt(RING, json.loads(json.dumps(receipt)))
    assert not is_receipt(RING, {**receipt, "erased_ms": NOW_MS - 1})
    assert not is_receipt(RING, {**receipt, "erased": []})
    assert not is_receipt(KeyRing(bytes(32)), receipt)
    assert not is_receipt(RING, {k: v for k, v in receipt.items() if k != "mac"})


def test_events_of_somebody_revoked_earlier_are_found(places: Places) -> None:
    with Gallery(places.gallery, RING, PACK) as gallery:
        gallery.revoke(person_id(1))
    assert export(places, person_id(1), now_ms=NOW_MS)["gallery"] is None
    receipt = erase(places, person_id(1), now_ms=NOW_MS)
    assert [item["file"] for item in receipt["erased"]] == ["journal.db"]


def test_an_id_is_found_however_its_accents_are_composed(places: Places) -> None:
    composed = "せんだい-ガ"
    apart = unicodedata.normalize("NFD", composed)
    assert apart != composed
    with Gallery(places.gallery, RING, PACK) as gallery:
        rows = gallery.protection.apply(templates(9, values=64))
        gallery.enroll(apart, rows, now_ms=NOW_MS)
    with Journal(places.journal, RING.journal_key()) as journal:
        journal.append(boarding(apart, 20))
    assert len(export(places, composed, now_ms=NOW_MS)["events"]) == 1


@pytest.mark.parametrize("action", [export, erase])
def test_nothing_held_is_said_so(places: Places, action: object) -> None:
    with pytest.raises(PersonError, match="holds nothing on 'nobody'"):
        action(places, "nobody", now_ms=NOW_MS)  # type: ignore[operator]


def test_erasing_twice_finds_nothing_more(places: Places) -> None:
    erase(places, person_id(1), now_ms=NOW_MS)
    again = erase_events(
        places.journal, RING.journal_key(), {PSEUDONYMS.of(person_id(1), "bus")}, NOW_MS
    )
    assert again.events == 0


def test_records_in_an_export_are_those_of_the_journals_own(places: Places) -> None:
    with Journal(places.journal, RING.journal_key(), read_only=True) as journal:
        first = as_record(next(iter(journal.entries())), show_persons=True)
    assert export(places, person_id(1), now_ms=NOW_MS)["events"][0] == first
