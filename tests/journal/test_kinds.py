"""Every kind of event is journalled, sent, listed and erased alike; old journals go on."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.base.events import (
    EnrolmentEvent,
    Moment,
    PassageEvent,
    UnknownEvent,
    person_of,
)
from agent.base.values import Nack
from agent.journal import Journal
from agent.journal.erasure import erase
from agent.journal.export import MASKED, as_record, write_csv, write_json_lines
from agent.journal.resealing import reseal
from agent.journal.sealing import _identity
from agent.protocol.events.kinds import read_body, write_body
from tests.events import one_of_each
from tests.journal.events import KEY, ack, moment
from tests.protocol.test_events import SENT

OLD_JOURNAL = Path(__file__).with_name("journal-4e2c240.db.gz")  # as that version wrote SENT
EVENTS = one_of_each(moment(1))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db", KEY)


def test_a_journal_of_the_version_before_kinds_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(gzip.decompress(OLD_JOURNAL.read_bytes()))
    events = [stored.event for stored in SENT]
    journal, report = Journal.open_checked(path, KEY, now=moment())
    with journal:
        assert not report.damage
        assert [stored.event for stored in journal.pending(journal.epoch, 0, 99)] == events
        assert [stored.event for stored in journal.recent(2)] == events[:-3:-1]
        assert journal.append(EVENTS[-2]).seq == len(events) + 1
        assert journal.confirm(ack(journal.epoch, 7)) == 7
    erased = erase(path, KEY, {person_of(events[0])}, 5)
    assert (erased.events, erased.unacknowledged) == (2, 0)


def test_bodies_of_old_kinds_are_sealed_as_they_always_were(tmp_path: Path) -> None:
    """So that the version before can be put back: it reads what is here."""
    path = tmp_path / "journal.db"
    with Journal(path, KEY) as journal:
        for stored in SENT:
            journal.append(stored.event)
        rows = journal._db.rows("SELECT epoch, seq, sealed FROM event ORDER BY seq")
    for (epoch, seq, sealed), stored in zip(rows, SENT, strict=True):
        data = _identity(epoch.hex(), seq, stored.event.moment)
        body = json.loads(AESGCM(KEY).decrypt(sealed[:12], sealed[12:], data))
        place = body.pop("place")
        assert list(place) == ["kind", "name", "door", "stop"]
        wanted = ["kind", "purpose", "person"]
        assert list(body) == wanted + ["sealed"] * isinstance(stored.event, EnrolmentEvent)


def test_every_kind_is_numbered_sent_and_acknowledged_alike(journal: Journal) -> None:
    kept = [journal.append(event) for event in EVENTS]
    assert [stored.seq for stored in kept] == list(range(1, len(EVENTS) + 1))
    assert journal.pending(journal.epoch, 0, 99) == kept
    assert journal.recent(99) == kept[::-1]
    nack = (Nack(3, "bad_kind"),)
    assert journal.confirm(ack(journal.epoch, len(EVENTS), nack=nack)) == len(EVENTS)
    assert journal.pending(journal.epoch, 0, 99) == []
    assert journal.requeue(journal.epoch, 1, 99) == 1
    assert journal.pending(journal.epoch, 0, 99) == [kept[2]]


def test_every_kind_outlives_damage_and_another_key(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal(path, KEY) as journal:
        for event in EVENTS:
            journal.append(event)
        journal._db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(36)  # the count of free pages: quick_check sees it, and no row is on that page
        file.write(b"\xff\xff\xff\xff")
    journal, report = Journal.open_checked(path, KEY, now=moment())
    journal.close()
    assert report.salvaged == len(EVENTS)
    assert reseal(path, KEY, bytes(32)) == len(EVENTS)
    with Journal(path, bytes(32)) as opened:
        assert [stored.event for stored in opened.recent(99)] == EVENTS[::-1]


def test_listings_show_every_kind_and_no_person_unless_asked(journal: Journal) -> None:
    for event in EVENTS:
        journal.append(event)
    entries = list(journal.entries())
    person = person_of(EVENTS[0])
    for shown in (True, False):
        lines, table = io.StringIO(), io.StringIO()
        assert write_json_lines(entries, lines, show_persons=shown) == len(EVENTS)
        assert write_csv(entries, table, show_persons=shown) == len(EVENTS)
        for text in (lines.getvalue(), table.getvalue()):
            assert (person in text) is shown
        told = [json.loads(line) for line in lines.getvalue().splitlines()]
        read = list(csv.DictReader(io.StringIO(table.getvalue())))
        assert [row["kind"] for row in told] == [event.kind for event in EVENTS]
        assert [row["kind"] for row in read] == [event.kind for event in EVENTS]
        # Nobody here can say what a kind that is not known names.
        assert (told[-1]["detail"] == MASKED) is not shown
    count = next(row for row in told if row["kind"] == "count")
    assert count["detail"] == {"entered": 3, "exited": 1, "source": "apc", "quality": "high"}
    assert (count["trip"], count["stop_sequence"], count["how"]) == ("平日_0812", 9, "belief")
    assert (count["fix_latitude_e7"], count["fix_age_ms"]) == (383_219_000, 350)
    assert next(journal.entries(kinds=["survey"])).event == EVENTS[-2]


def test_erasing_somebody_takes_what_names_them_and_nothing_else(
    journal: Journal, tmp_path: Path
) -> None:
    for event in EVENTS:
        journal.append(event)
    journal.close()
    person = person_of(EVENTS[0])
    theirs = [event for event in EVENTS if person_of(event) == person]
    assert {type(event) for event in theirs} == {PassageEvent, EnrolmentEvent, UnknownEvent}
    erased = erase(tmp_path / "journal.db", KEY, {person}, 5)
    assert (erased.events, erased.unacknowledged) == (len(theirs), len(theirs))
    with Journal(tmp_path / "journal.db", KEY) as rest:
        left = [stored.event for stored in rest.recent(99)]
        assert left == [event for event in reversed(EVENTS) if event not in theirs]
        assert sum(gap.last - gap.first + 1 for gap in rest.gaps()) == len(theirs)


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "of_tomorrow", "person": "ab" * 32, "x": [1, {"y": None}]},
        # Too long a name, by a version with other bounds: the city says what it thinks of it.
        write_body(EVENTS[0]) | {"place": {**write_body(EVENTS[0])["place"], "name": "n" * 129}},
        {**write_body(EVENTS[0]), "purpose": "A purpose"},
    ],
)
def test_what_this_version_cannot_read_is_kept_and_sent_as_it_is(
    journal: Journal, body: dict[str, object]
) -> None:
    event = read_body(body, moment(1))
    assert isinstance(event, UnknownEvent)
    assert write_body(event) == body
    journal.append(event)
    (kept,) = journal.pending(journal.epoch, 0, 9)
    assert kept.event == event
    (entry,) = journal.entries()
    assert as_record(entry, show_persons=True)["kind"] == body["kind"]


@pytest.mark.parametrize("body", [b"[]", b'{"no": "kind"}', b"null", b'{"kind": ["x"]}', b"{"])
def test_a_sealed_body_that_is_no_event_at_all_counts_as_damage(
    journal: Journal, body: bytes
) -> None:
    when: Moment = moment(1)
    nonce = bytes(12)
    sealed = nonce + AESGCM(KEY).encrypt(nonce, body, _identity(journal.epoch, 1, when))
    assert journal._sealer.unseal(journal.epoch, 1, when, sealed) is None
