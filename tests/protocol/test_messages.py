"""What crosses the network parses completely and within bounds, or is a MessageError."""

from __future__ import annotations

import dataclasses
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import MessageError
from agent.base.values import Ack, Nack
from agent.protocol.events.enrolment import MAX_SEALED_BYTES
from agent.protocol.fields import FieldError
from agent.protocol.items import decode_event, encode_event
from agent.protocol.messages import (
    MAX_BATCH_BYTES,
    Birth,
    Bounds,
    Will,
    decode_ack,
    decode_state,
    encode_ack,
    encode_birth,
    encode_will,
    pack,
    unpack,
)
from agent.protocol.topics import parse_topic
from tests.events import EPOCH, OTHER_EPOCH, enrolment, stored

ACK = Ack(EPOCH, 40, ((42, 44), (50, 50)), (Nack(45, "bad_kind"),), 1_790_000_000_000)
BIRTH = Birth(7, OTHER_EPOCH, (Bounds(EPOCH, 5, 9), Bounds(OTHER_EPOCH, 1, 0)), "0.1.0", 3, "ab", 2)


@pytest.mark.parametrize("count", [1, 9, 10, 100])
def test_a_batch_comes_back_as_it_was_sent(count: int) -> None:
    events = [stored(seq) for seq in range(1, count + 1)]
    payload = pack([encode_event(event) for event in events])
    assert [decode_event(item) for item in unpack(payload)] == events


def test_a_batch_is_compressed_from_ten_events_on_and_says_so_by_its_first_byte() -> None:
    bodies = [encode_event(stored(seq)) for seq in range(1, 11)]
    assert pack(bodies[:9])[:1] == b"["
    assert zlib.decompress(pack(bodies))[:1] == b"["


def test_a_corrected_time_travels_and_is_left_out_when_there_is_none() -> None:
    plain = stored(1)
    corrected = dataclasses.replace(plain, corrected_ms=1_800_000_000_000)
    assert decode_event(json.loads(encode_event(corrected))) == corrected
    assert b"corrected_ms" not in encode_event(plain)


def test_the_wire_form_of_an_event_is_the_documented_one() -> None:
    assert json.loads(encode_event(stored(7))) == {
        "epoch": EPOCH,
        "seq": 7,
        "kind": "boarding",
        "purpose": "bus",
        "person": f"{7:064x}",
        "place": {
            "kind": "bus",
            "name": "パークバス　1号",
            "door": "front",
            "stop": "高森三丁目",
        },
        "boot": "3f1c9e2a-boot",
        "mono_ms": 1_007,
        "wall_ms": 1_790_000_000_007,
        "clock": "ntp",
        "error_ms": 50,
    }


def test_the_largest_enrolment_fits_into_a_batch_and_comes_back_as_it_was() -> None:
    largest = enrolment(1, size=MAX_SEALED_BYTES)
    assert [decode_event(item) for item in unpack(pack([encode_event(largest)]))] == [largest]
    assert "sealed" not in repr(largest)


@pytest.mark.parametrize(
    ("kind", "sealed"),
    [
        ("enrolment", None),
        ("enrolment", ""),
        ("enrolment", "not base64!"),
        ("enrolment", "A" * (MAX_SEALED_BYTES * 4 // 3 + 8)),
        ("boarding", "AAAA"),
    ],
)
def test_sealed_is_in_an_enrolment_and_nowhere_else(kind: str, sealed: str | None) -> None:
    item = dict(json.loads(encode_event(stored(1))), kind=kind)
    if sealed is not None:
        item["sealed"] = sealed
    with pytest.raises(FieldError) as caught:
        decode_event(item)
    assert caught.value.code == "bad_sealed"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"[1",
        b"[NaN]",
        b"\xff\xfe",
        b"x\x9c",
        zlib.compress(b"[1]")[:-1],
        zlib.compress(b"[1]") + b"tail",
        zlib.compress(b"[" + b" " * MAX_BATCH_BYTES + b"1]"),
        zlib.compress(b"[" * 60_000),
        b"[" * 60_000,
        b"[" + b"9" * 10_000 + b"]",
        b"[" + b",".join([b"1"] * 101) + b"]",
    ],
)
def test_what_is_no_batch_within_the_limits_is_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(payload)


def test_a_zip_bomb_is_not_inflated() -> None:
    """64 MB of spaces in 64 KB: refused after the 65,537th byte, so in no time and little room."""
    with pytest.raises(MessageError, match="beyond"):
        unpack(zlib.compress(b"[" + b" " * 64_000_000, 9))


@given(st.binary(max_size=300))
def test_random_bytes_never_do_more_than_be_refused(payload: bytes) -> None:
    for decode in (unpack, decode_ack, decode_state):
        with pytest.raises(MessageError):
            decode(payload)


@given(st.data())
def test_a_damaged_ack_is_refused_or_is_another_well_formed_ack(data: st.DataObject) -> None:
    payload = bytearray(encode_ack(ACK))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        ack = decode_ack(bytes(payload))
    except MessageError:
        return
    assert decode_ack(encode_ack(ack)) == ack


def wrong(field: str, value: Any) -> dict[str, Any]:
    item = json.loads(encode_event(stored(1)))
    if field.startswith("place."):
        item["place"][field[6:]] = value
    else:
        item[field] = value
    return dict(item)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("kind", "Flying!", "bad_kind"),
        ("kind", ["boarding"], "bad_kind"),
        ("purpose", "", "bad_purpose"),
        ("person", "taro", "bad_person"),
        ("person", "A" * 64, "bad_person"),
        ("place", "bus", "bad_place"),
        ("place.name", "a\x00b", "bad_place_name"),
        ("place.stop", "\ud800", "bad_place_stop"),
        ("place.door", "d" * 65, "bad_place_door"),
        ("boot", None, "bad_boot"),
        ("mono_ms", True, "bad_mono_ms"),
        ("mono_ms", 1.5, "bad_mono_ms"),
        ("wall_ms", 2**53, "bad_wall_ms"),
        ("clock", "sundial", "bad_clock"),
        ("clock", {}, "bad_clock"),
        ("error_ms", -2, "bad_error_ms"),
        ("corrected_ms", "soon", "bad_corrected_ms"),
        ("seq", 0, "bad_seq"),
        ("seq", -(10**30), "bad_seq"),
        ("epoch", "../x", "bad_epoch"),
    ],
)
def test_a_wrong_field_is_named_without_its_value(field: str, value: Any, code: str) -> None:
    with pytest.raises(FieldError) as caught:
        decode_event(wrong(field, value))
    assert caught.value.code == code
    assert "taro" not in str(caught.value)


def test_a_missing_field_is_refused() -> None:
    item = json.loads(encode_event(stored(1)))
    del item["clock"]
    with pytest.raises(FieldError, match="clock missing"):
        decode_event(item)


def test_a_clock_before_1970_is_a_wrong_time_and_not_a_wrong_event() -> None:
    assert decode_event(wrong("wall_ms", -86_400_000)).event.moment.wall_ms == -86_400_000


def test_an_event_with_half_a_character_cannot_be_sent() -> None:
    with pytest.raises(MessageError, match="not Unicode"):
        encode_event(stored(1, stop="\udc80"))


def test_an_ack_comes_back_as_it_was_sent() -> None:
    assert decode_ack(encode_ack(ACK)) == ACK
    assert json.loads(encode_ack(ACK)) == {
        "epoch": EPOCH,
        "upto": 40,
        "have": [[42, 44], [50, 50]],
        "nack": [{"seq": 45, "code": "bad_kind"}],
        "server_time": 1_790_000_000_000,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"upto": -1},
        {"upto": "40"},
        {"have": [[5, 4]]},
        {"have": [[1]]},
        {"have": {}},
        {"have": [[1, 2]] * 2_001},
        {"nack": [{"seq": 1}]},
        {"nack": [{"seq": 1, "code": "DROP TABLE"}]},
        {"nack": [7]},
        {"epoch": 1},
        {"server_time": None},
    ],
)
def test_an_ack_with_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decode_ack(json.dumps(json.loads(encode_ack(ACK)) | change).encode())


def test_birth_and_will_come_back_as_they_were_sent() -> None:
    assert decode_state(encode_birth(BIRTH)) == BIRTH
    assert decode_state(encode_will(7)) == Will(7)


@pytest.mark.parametrize(
    "change",
    [
        {"online": 1},
        {"connection": -1},
        {"epochs": [{"epoch": EPOCH, "first": 9, "last": 3}]},
        {"epochs": "all"},
        {"gallery": []},
        {"software": "x" * 65},
    ],
)
def test_a_birth_with_a_wrong_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        decode_state(json.dumps(json.loads(encode_birth(BIRTH)) | change).encode())


def test_a_topic_names_its_device() -> None:
    assert parse_topic("kp1/bus-7/u/ev") == ("bus-7", "u/ev")


@pytest.mark.parametrize(
    "topic", ["", "kp1", "kp1/bus-7", "kp2/bus-7/u/ev", "kp1/../u/ev", "kp1//u"]
)
def test_another_topic_is_refused(topic: str) -> None:
    with pytest.raises(MessageError):
        parse_topic(topic)
