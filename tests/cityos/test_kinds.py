"""The city commits events of every kind once, those too that it does not know."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import text

from agent.base.events import (
    WHERE_COLUMNS,
    CountEvent,
    Event,
    Moment,
    StoredEvent,
    UnknownEvent,
    person_of,
)
from agent.base.values import Ack, Message, Nack
from agent.cityos.db.schema import EVENT
from agent.cityos.events.intake import Intake
from agent.cityos.events.store import Arrival, Store
from agent.cityos.service.metrics import CityCollector
from agent.cityos.usecases import upkeep
from agent.protocol.events.kinds import write_body
from agent.protocol.items import encode_event
from agent.protocol.messages import Birth, Bounds, Offset, decode_ack, pack
from tests.cityos.database import database_of
from tests.events import EPOCH, KNOWN, make_event, one_of_each

DEVICE = "bus-1"
KEY = (DEVICE, EPOCH)
EVENTS = one_of_each()
MOMENT = make_event().moment
RIDE = replace(make_event(), place=KNOWN)
COUNT = CountEvent(KNOWN, MOMENT, 3, 1, "apc", "high")
WEATHER = UnknownEvent("weather", "ab" * 32, MOMENT, '{"rain_mm":3}')
NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture
def intake(store: Store) -> Intake:
    return Intake(store, wall_ms=lambda: NOW_MS)


def said(intake: Intake, *events: Event, first: int = 1, **changes: Any) -> Ack:
    """What the city answers to *events*, numbered from *first*, with *changes* in each item."""
    bodies = [encode_event(StoredEvent(EPOCH, first + n, event)) for n, event in enumerate(events)]
    if changes:
        bodies = [json.dumps(json.loads(body) | changes).encode() for body in bodies]
    (answer,) = intake.take([Message(f"kp1/{DEVICE}/u/ev", pack(bodies))])
    return decode_ack(answer.payload)


def rows(store: Store) -> list[dict[str, Any]]:
    return sorted(store.events(limit=1_000), key=lambda row: row["seq"])


def test_every_kind_is_committed_acknowledged_and_found_by_its_kind(
    intake: Intake, store: Store
) -> None:
    ack = said(intake, *EVENTS)
    assert (ack.upto, ack.nack) == (len(EVENTS), ())
    assert [row["kind"] for row in rows(store)] == [event.kind for event in EVENTS]
    assert [row["person"] for row in rows(store)] == [person_of(event) for event in EVENTS]
    (count,) = store.events(kinds=["count"])
    assert count["place"] == KNOWN.name
    assert (count["trip"], count["stop_sequence"], count["fix_age_ms"]) == ("平日_0812", 9, 350)
    assert count["body"]["entered"] == 3
    assert {row["kind"] for row in store.events(kinds=["survey", "stop_visit"])} == {
        "survey",
        "stop_visit",
    }
    assert store.devices()[0].events == len(EVENTS)


def test_residents_events_have_columns_and_no_body_all_others_are_kept_whole(
    intake: Intake, store: Store
) -> None:
    said(intake, *EVENTS)
    for row, event in zip(rows(store), EVENTS, strict=True):
        resident = event.kind in ("boarding", "alighting", "check_in", "check_out", "enrolment")
        assert (row["body"] is None) is resident
        if not resident:
            whole = {"kind": row["kind"], **row["body"]}
            assert whole | ({"person": row["person"]} if row["person"] else {}) == write_body(event)
    first = rows(store)[0]
    assert {name: first[name] for name in WHERE_COLUMNS} == dict.fromkeys(WHERE_COLUMNS)


def test_a_kind_that_is_not_known_is_kept_as_it_came_and_said_once(
    intake: Intake, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for first in (1, 4):
        ack = said(intake, *[make_event(n) for n in range(3)], first=first, kind="weather", rain=3)
        assert ack.upto == first + 2
    said(intake, make_event(), first=7, kind="tide")
    assert [record.message for record in caplog.records] == [
        f"events of the kind {kind}, unknown here, are kept as they come"
        for kind in ("weather", "tide")
    ]
    row = rows(store)[0]
    item = json.loads(encode_event(StoredEvent(EPOCH, 1, make_event(0))))
    assert row["body"] == {"purpose": "bus", "place": item["place"], "rain": 3}
    assert (row["person"], row["purpose"], row["place"]) == (item["person"], "", "")
    (device,) = store.devices()
    assert (device.events, device.lag, device.unread) == (7, 0, {"tide": 1, "weather": 6})
    assert "6 events of the kind weather" in device.alarms[1]
    registry = CollectorRegistry()
    registry.register(CityCollector(lambda: intake.status, store.pulses))
    assert b"kaopass_city_unread_events_total 7.0" in generate_latest(registry)


def test_a_flood_of_new_kinds_is_no_flood_of_log_lines(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1, 101):
        assert said(intake, make_event(), first=number, kind=f"k{number}").upto == number
    assert len(caplog.records) == 32


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_repeat_is_no_news_and_another_content_sets_the_device_aside(
    intake: Intake, store: Store, event: Event
) -> None:
    assert said(intake, event) == said(intake, event)
    before = rows(store)
    assert store.event_count() == 1
    later = replace(event.moment, mono_ms=event.moment.mono_ms + 1)
    other = replace(event, moment=later)
    ack = said(intake, other)
    assert (ack.upto, ack.nack) == (0, (Nack(1, "conflict"),))
    assert rows(store) == before
    assert store.devices()[0].aside


@pytest.mark.parametrize(
    ("event", "other"),
    [
        (COUNT, replace(COUNT, entered=4)),
        (WEATHER, replace(WEATHER, body='{"rain_mm":4}')),
        (WEATHER, replace(WEATHER, person="")),
        (RIDE, replace(RIDE, place=replace(KNOWN, fix=None))),
    ],
    ids=["count", "unknown", "somebody else's", "another place"],
)
def test_what_differs_in_the_body_alone_is_another_content(
    intake: Intake, store: Store, event: Event, other: Event
) -> None:
    said(intake, event)
    assert said(intake, other).nack == (Nack(1, "conflict"),)
    assert store.devices()[0].aside


def test_what_an_older_city_kept_unread_is_the_same_event_once_the_kind_is_known(
    store: Store,
) -> None:
    body = write_body(COUNT)
    kind = body.pop("kind")
    as_it_came = json.dumps(body | {"of_a_later_version": 1}, sort_keys=True)
    unread = UnknownEvent(kind, "", MOMENT, as_it_came)
    store.commit({KEY: Arrival({1: StoredEvent(EPOCH, 1, unread)})}, NOW_MS)
    assert rows(store)[0]["trip"] is None
    ack = store.commit({KEY: Arrival({1: StoredEvent(EPOCH, 1, COUNT)})}, NOW_MS + 1)[KEY]
    assert (ack.upto, ack.nack) == (1, ())
    (row,) = rows(store)
    assert (row["place"], row["trip"], row["received_ms"]) == (KNOWN.name, "平日_0812", NOW_MS)
    assert row["body"]["of_a_later_version"] == 1
    # Another worker is of the older version still.
    late = StoredEvent(EPOCH, 1, unread)
    assert store.commit({KEY: Arrival({1: late})}, NOW_MS + 1)[KEY].nack == ()
    assert rows(store) == [row]
    other = StoredEvent(EPOCH, 1, replace(COUNT, entered=9))
    assert store.commit({KEY: Arrival({1: other})}, NOW_MS + 2)[KEY].nack


def test_a_repeat_tells_the_trip_that_an_older_city_had_no_column_for(
    store: Store,
) -> None:
    plain = replace(RIDE, place=replace(KNOWN, timetable=None, fix=None))
    for sent in (plain, RIDE, plain):
        ack = store.commit({KEY: Arrival({1: StoredEvent(EPOCH, 1, sent)})}, NOW_MS)[KEY]
        if sent is RIDE:
            assert (ack.upto, ack.nack) == (1, ())
            assert (rows(store)[0]["trip"], rows(store)[0]["fix_age_ms"]) == ("平日_0812", 350)
    assert ack.nack, "what is known is not unknown again"


def test_a_refused_kind_is_offered_again_after_an_upgrade_and_taken(
    intake: Intake, store: Store
) -> None:
    """An older city side refused what it did not know: a count has no ``person``."""
    birth = Birth(1, EPOCH, (Bounds(EPOCH, 1, 2),), "0.2.0")
    store.state(DEVICE, birth, NOW_MS)
    arrival = Arrival({1: StoredEvent(EPOCH, 1, make_event())}, rejected={2: "bad_event"})
    store.commit({KEY: arrival}, NOW_MS)
    assert upkeep.release(database_of(store), DEVICE, None, NOW_MS) == upkeep.Released(False, 1)
    (command,) = store.due(NOW_MS)
    assert command.arguments["refused"] is True
    assert said(intake, COUNT, first=2).nack == ()
    assert (upkeep.quarantine(database_of(store)), store.devices()[0].rejected) == ([], 0)
    assert [row["kind"] for row in rows(store)] == ["boarding", "count"]


def test_all_kinds_learn_their_time_and_go_after_theirs(store: Store) -> None:
    moment = Moment("boot-x", 5_000, 1_000, "unset", -1)
    events = {
        seq: StoredEvent(EPOCH, seq, event)
        for seq, event in enumerate(one_of_each(moment), start=1)
    }
    store.commit({KEY: Arrival(events)}, NOW_MS)
    clocks = (Offset("boot-x", NOW_MS),)
    birth = Birth(1, EPOCH, (Bounds(EPOCH, 1, len(events)),), "0.2.0", clocks=clocks)
    store.state(DEVICE, birth, NOW_MS)
    assert {row["corrected_ms"] for row in rows(store)} == {NOW_MS + 5_000}
    assert upkeep.prune(database_of(store), 1, NOW_MS + 2 * DAY_MS) == len(events)
    assert rows(store) == []
    late = store.commit({KEY: Arrival(events)}, NOW_MS + 3 * DAY_MS)[KEY]
    assert (late.upto, rows(store)) == (len(events), [])


def test_who_is_erased_is_erased_from_every_kind_and_a_repeat_is_still_the_same(
    intake: Intake, store: Store
) -> None:
    said(intake, *EVENTS)
    person = person_of(EVENTS[0])
    named = [row["seq"] for row in rows(store) if row["person"] == person]
    assert len(named) == sum(person_of(event) == person for event in EVENTS)
    # No other column holds it, so this one alone has to be emptied (``Eraser.forget_events``).
    with store.engine.begin() as db:
        db.execute(EVENT.update().where(EVENT.c.person == person).values(person=""))
        whole = db.execute(text("SELECT * FROM event")).all()
    assert person not in str(whole)
    ack = said(intake, *EVENTS)
    assert (ack.upto, ack.nack) == (len(EVENTS), ())
    assert {row["person"] for row in rows(store)} == {""}


def test_an_events_body_may_be_as_large_as_a_batch_takes_and_no_other_is_held_up(
    intake: Intake, store: Store
) -> None:
    ack = said(intake, make_event(1), make_event(2), kind="weather", rain="r" * 16_000)
    assert (ack.upto, ack.nack) == (2, ())
    ack = said(intake, make_event(3), first=3, kind="weather", rain="r" * 16_400)
    assert (ack.upto, ack.nack) == (3, (Nack(3, "bad_event"),))
    assert said(intake, make_event(4), first=4).upto == 4
    assert [row["seq"] for row in rows(store)] == [1, 2, 4]
