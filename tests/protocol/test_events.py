"""Every kind of event comes back as it was sent; today's bytes stay; unknown kinds are kept."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.events import (
    TIMETABLE_COLUMNS,
    EnrolmentEvent,
    Event,
    Moment,
    Passage,
    PassageEvent,
    Place,
    StoredEvent,
    UnknownEvent,
)
from agent.protocol.events.kinds import BY_WORD, KINDS
from agent.protocol.events.unknown import MAX_UNKNOWN_BYTES
from agent.protocol.fields import FieldError
from agent.protocol.items import decode_event, encode_event
from agent.protocol.messages import pack, unpack
from tests.events import EPOCH, one_of_each, stored

# What 4e2c240 made of these events, byte for byte: devices and cities of that time go on.
HEAD = '{"epoch":"0123456789abcdef0123456789abcdef","seq":'
PLACE_7 = '"place":{"kind":"bus","name":"泉パークタウン7号","door":'
PLACE_H = '"place":{"kind":"hall","name":"高森\\"公民館\\"","door":"main","stop":null}'
BOOT = '"boot":"3f1c9e2a-boot","mono_ms":'
SEALED = '"sealed":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJw=="}'
ANN, BEN = "7f" * 32, "0c" * 32
GOLDEN = {
    1: f'{HEAD}1,"kind":"boarding","purpose":"bus","person":"{ANN}",{PLACE_7}"front",'
    f'"stop":"紫山三丁目"}},{BOOT}81001,"wall_ms":1796000000001,"clock":"ntp","error_ms":50}}',
    2: f'{HEAD}2,"kind":"alighting","purpose":"bus","person":"{ANN}",{PLACE_7}"rear",'
    f'"stop":null}},{BOOT}81002,"wall_ms":1796000000002,"clock":"saved","error_ms":-1,'
    '"corrected_ms":1796000500000}',
    3: f'{HEAD}3,"kind":"check_in","purpose":"hall","person":"{BEN}",{PLACE_H},'
    f'{BOOT}81003,"wall_ms":1796000000003,"clock":"gnss","error_ms":0}}',
    4: f'{HEAD}4,"kind":"check_out","purpose":"hall","person":"{BEN}",{PLACE_H},'
    f'{BOOT}81004,"wall_ms":1796000000004,"clock":"unset","error_ms":-1}}',
    5: f'{HEAD}5,"kind":"enrolment","purpose":"hall","person":"{BEN}",{PLACE_H},'
    f'{BOOT}81005,"wall_ms":1796000000005,"clock":"ntp","error_ms":50,{SEALED}',
    6: f'{HEAD}6,"kind":"enrolment","purpose":"hall","person":"{BEN}",{PLACE_H},'
    f'{BOOT}81006,"wall_ms":1796000000006,"clock":"saved","error_ms":-1,'
    f'"corrected_ms":1796000500006,{SEALED}',
}
BUS_7 = Place("bus", "泉パークタウン7号", "front", "紫山三丁目")
REAR_7 = Place("bus", "泉パークタウン7号", "rear")
HALL = Place("hall", '高森"公民館"', "main")


def at(number: int, clock: str = "ntp", error_ms: int = 50) -> Moment:
    wall_ms = 1_796_000_000_000 + number
    return Moment("3f1c9e2a-boot", 81_000 + number, wall_ms, clock, error_ms)


SENT = [
    StoredEvent(EPOCH, 1, PassageEvent(Passage.BOARDING, "bus", ANN, BUS_7, at(1))),
    StoredEvent(
        *(EPOCH, 2, PassageEvent(Passage.ALIGHTING, "bus", ANN, REAR_7, at(2, "saved", -1))),
        1_796_000_500_000,
    ),
    StoredEvent(EPOCH, 3, PassageEvent(Passage.CHECK_IN, "hall", BEN, HALL, at(3, "gnss", 0))),
    StoredEvent(EPOCH, 4, PassageEvent(Passage.CHECK_OUT, "hall", BEN, HALL, at(4, "unset", -1))),
    StoredEvent(EPOCH, 5, EnrolmentEvent("hall", BEN, HALL, at(5), bytes(range(40)))),
    StoredEvent(
        *(EPOCH, 6, EnrolmentEvent("hall", BEN, HALL, at(6, "saved", -1), bytes(range(40)))),
        1_796_000_500_006,
    ),
]


@pytest.mark.parametrize("event", SENT, ids=lambda event: f"{event.seq}-{event.event.kind}")
def test_the_bytes_of_the_kinds_there_always_were_have_not_changed(event: StoredEvent) -> None:
    assert encode_event(event).decode() == GOLDEN[event.seq]
    assert decode_event(json.loads(GOLDEN[event.seq])) == event


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: event.kind)
def test_every_kind_comes_back_as_it_was_sent(event: Event) -> None:
    for corrected_ms in (None, 1_796_000_500_000):
        sent = StoredEvent(EPOCH, 3, event, corrected_ms)
        assert [decode_event(item) for item in unpack(pack([encode_event(sent)]))] == [sent]


def test_every_class_of_event_has_a_kind_and_no_word_means_two() -> None:
    assert {kind.event for kind in KINDS} == set(get_args(Event)) - {UnknownEvent}
    assert len(BY_WORD) == sum(len(kind.words) for kind in KINDS)
    assert {type(event) for event in one_of_each()} == set(get_args(Event))


def wire(event: Event) -> dict[str, Any]:
    return dict(json.loads(encode_event(StoredEvent(EPOCH, 3, event))))


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value inside *value* lies."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, each in inner:
        found.append((*at, key))
        if isinstance(each, dict | list):
            found += paths(each, (*at, key))
    return found


def spoilt(item: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(item))
    inside = copy
    for key in path[:-1]:
        inside = inside[key]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return dict(copy)


KNOWN_KINDS = [event for event in one_of_each() if not isinstance(event, UnknownEvent)]
# Fields that an event of the kind may lack; all others it must have.
OPTIONAL = {"timetable", *TIMETABLE_COLUMNS, "fix"} - {"how"}


@pytest.mark.parametrize("event", KNOWN_KINDS, ids=lambda event: event.kind)
def test_every_field_is_read_strictly(event: Event) -> None:
    """Each in turn becomes what no field may be; the error says where, never what."""
    item = wire(event)
    for path in paths(item):
        bad = spoilt(item, path, {"taro": [-1.5]})
        with pytest.raises(FieldError) as caught:
            decode_event(bad)
        assert "taro" not in str(caught.value)


@pytest.mark.parametrize("event", KNOWN_KINDS, ids=lambda event: event.kind)
def test_a_field_that_is_missing_is_refused_unless_it_may_be(event: Event) -> None:
    item = wire(event)
    for path in paths(item):
        if isinstance(path[-1], int):
            continue  # a list may be shorter
        less = spoilt(item, path, None)
        if path[-1] in OPTIONAL and path[0] == "place":
            assert decode_event(less) != decode_event(item)
        elif path == ("place",) and item["kind"] == "correction" and item["what"] == "withdrawn":
            assert decode_event(less).event.what == "withdrawn"  # type: ignore[union-attr]
        else:
            with pytest.raises(FieldError):
                decode_event(less)


@pytest.mark.parametrize("event", one_of_each(), ids=lambda event: event.kind)
def test_further_fields_are_left_alone(event: Event) -> None:
    """Of a kind that is known: what a later version adds does not make it another event."""
    more = {**wire(event), "later": 1}
    if "place" in more and not isinstance(event, UnknownEvent):
        more["place"]["later"] = {"x": 1}
    found = decode_event(more).event
    if isinstance(event, UnknownEvent):
        assert isinstance(found, UnknownEvent)
        assert json.loads(found.body)["later"] == 1
    else:
        assert found == event


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("place", "timetable", "service_date"), "20261128"),
        (("place", "timetable", "service_date"), "2026-13-01"),
        (("place", "timetable", "stop_sequence"), -1),
        (("place", "timetable", "how"), "By Belief"),
        (("place", "timetable", "trip"), ""),
        (("place", "fix", "latitude_e7"), 900_000_001),
        (("place", "fix", "longitude_e7"), -1_800_000_001),
        (("place", "fix", "accuracy_mm"), -2),
        (("place", "fix", "age_ms"), 0.5),
    ],
)
def test_what_is_known_of_a_place_is_within_its_bounds(path: tuple[str, ...], value: Any) -> None:
    (item,) = [wire(event) for event in KNOWN_KINDS if event.kind == "count"]
    with pytest.raises(FieldError) as caught:
        decode_event(spoilt(item, path, value))
    assert caught.value.code == "bad_" + "_".join(path)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("stop_visit", ("departed_mono_ms",), 79_999),
        ("stop_visit", ("doors", 0, "closed_mono_ms"), 81_199),
        ("stop_visit", ("doors",), [{"door": "a", "opened_mono_ms": 1, "closed_mono_ms": 2}] * 65),
        ("service_count", ("media",), [{}] * 17),
        ("correction", ("corrects", "seq"), 0),
        ("correction", ("corrects", "device"), "../bus"),
        ("count", ("entered",), -1),
        ("survey", ("answer",), "a sentence with a name in it"),
    ],
)
def test_a_kinds_own_fields_are_within_their_bounds(
    kind: str, path: tuple[Any, ...], value: Any
) -> None:
    item = next(wire(event) for event in KNOWN_KINDS if event.kind == kind)
    with pytest.raises(FieldError):
        decode_event(spoilt(item, path, value))


def unknown(**fields: Any) -> dict[str, Any]:
    item = json.loads(encode_event(stored(3)))
    envelope = ("epoch", "seq", "boot", "mono_ms", "wall_ms", "clock", "error_ms")
    return {**{name: item[name] for name in envelope}, "kind": "weather", **fields}


def test_a_kind_that_is_not_known_is_kept_as_it_came() -> None:
    item = unknown(rain_mm=3, person="ab" * 32, place={"kind": "sky", "name": 7}, corrected_ms=5)
    found = decode_event(item)
    assert isinstance(found.event, UnknownEvent)
    assert (found.event.kind, found.event.person) == ("weather", "ab" * 32)
    assert found.event.moment == stored(3).event.moment
    assert json.loads(found.event.body) == {"rain_mm": 3, "place": {"kind": "sky", "name": 7}}
    assert json.loads(encode_event(found)) == item
    assert "sky" not in repr(found)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "k" * 33}, "bad_kind"),
        ({"kind": "Weather"}, "bad_kind"),
        ({"kind": None}, "bad_kind"),
        ({"clock": "sundial"}, "bad_clock"),
        ({"mono_ms": -1}, "bad_mono_ms"),
        ({"boot": ""}, "bad_boot"),
        ({"corrected_ms": "soon"}, "bad_corrected_ms"),
        ({"rain": "r" * MAX_UNKNOWN_BYTES}, "bad_event"),
        ({"rain": float("inf")}, "bad_event"),
        ({"rain": "\ud800"}, "bad_event"),
    ],
)
def test_a_kind_that_is_not_known_must_have_what_all_events_have(
    change: dict[str, Any], code: str
) -> None:
    with pytest.raises(FieldError) as caught:
        decode_event(unknown(**change))
    assert caught.value.code == code


def test_what_is_nested_deep_in_an_unknown_kind_harms_nobody() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(FieldError, match="RecursionError"):
        decode_event(unknown(rain=deep))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["x", "person", "place", "sealed", "body"]), JSON))
def test_whatever_an_unknown_kind_holds_it_is_refused_or_comes_back(more: dict[str, Any]) -> None:
    try:
        found = decode_event(unknown(**more))
    except FieldError as error:
        assert error.code == "bad_event"  # noqa: PT017 - nothing else can be wrong
        return
    assert decode_event(json.loads(encode_event(found))) == found
