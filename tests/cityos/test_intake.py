"""Messages become one commit and true acks; what is wrong with one harms no other."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.base.errors import CityError
from agent.base.values import Message, Nack
from agent.cityos.events.intake import Intake
from agent.cityos.events.store import Store
from agent.protocol.items import encode_event
from agent.protocol.messages import Birth, Bounds, decode_ack, encode_birth, encode_will, pack
from tests.events import EPOCH, OTHER_EPOCH, stored


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(str(tmp_path / "city.db"))
    yield opened
    opened.close()


@pytest.fixture
def intake(store: Store) -> Intake:
    return Intake(store, wall_ms=lambda: 1_790_000_000_000)


def batch(*seqs: int, device: str = "bus-1", epoch: str = EPOCH) -> Message:
    bodies = [encode_event(stored(seq, epoch=epoch)) for seq in seqs]
    return Message(f"kp1/{device}/u/ev", pack(bodies))


def raw(items: list[Any]) -> Message:
    return Message("kp1/bus-1/u/ev", json.dumps(items).encode())


def wire(seq: int, **changes: Any) -> dict[str, Any]:
    return dict(json.loads(encode_event(stored(seq))), **changes)


def test_what_came_together_is_one_commit_and_one_ack_for_each_device(
    intake: Intake, store: Store
) -> None:
    messages = [batch(*range(1 + n, 101 + n)) for n in range(0, 400, 100)]
    acks = intake.take([*messages, batch(1, 2, device="bus-2")])
    assert intake.status.commits == 1
    assert [(ack.topic, decode_ack(ack.payload).upto) for ack in acks] == [
        ("kp1/bus-1/d/ack", 400),
        ("kp1/bus-2/d/ack", 2),
    ]
    assert store.event_count() == 402


def test_a_batch_of_two_epochs_has_two_acks(intake: Intake) -> None:
    bodies = [encode_event(stored(1)), encode_event(stored(1, epoch=OTHER_EPOCH))]
    acks = intake.take([Message("kp1/bus-1/u/ev", pack(bodies))])
    assert {decode_ack(ack.payload).epoch for ack in acks} == {EPOCH, OTHER_EPOCH}


def test_a_poison_event_is_refused_by_itself(intake: Intake, store: Store) -> None:
    (ack,) = intake.take([raw([wire(1), wire(2, clock="sundial"), wire(3)])])
    answer = decode_ack(ack.payload)
    assert (answer.upto, answer.nack) == (3, (Nack(2, "bad_clock"),))
    assert answer.server_time_ms == 1_790_000_000_000
    assert [row["seq"] for row in store.events()] == [1, 3]


def test_an_event_without_identity_is_dropped_and_the_rest_flows(intake: Intake) -> None:
    (ack,) = intake.take([raw([wire(1), {"seq": 2}, 7, None, wire(3)])])
    answer = decode_ack(ack.payload)
    assert (answer.upto, answer.have) == (1, ((3, 3),))
    assert intake.status.rejected_events == 3


@pytest.mark.parametrize(
    "message",
    [
        Message("kp1/bus-1/u/ev", b"no batch"),
        Message("kp1/bus-1/u/st", b"no state"),
        Message("kp1/bus-1/u/other", b"[]"),
        Message("weather/today", b"[]"),
        raw([wire(1, epoch=f"{n:032x}") for n in range(9)]),
    ],
    ids=lambda message: message.topic,
)
def test_a_message_that_does_not_parse_is_counted_and_harms_no_other(
    intake: Intake, message: Message
) -> None:
    (ack,) = intake.take([message, batch(1, device="bus-2")])
    assert ack.topic == "kp1/bus-2/d/ack"
    assert intake.status.refused_messages == 1


def test_a_flood_of_nonsense_does_not_become_a_flood_of_log_lines(
    intake: Intake, caplog: pytest.LogCaptureFixture
) -> None:
    assert intake.take([Message("kp1/bus-1/u/ev", b"?")] * 1_000) == []
    assert intake.status.refused_messages == 1_000
    assert len(caplog.records) == 10


def test_no_log_line_holds_a_pseudonym(intake: Intake, caplog: pytest.LogCaptureFixture) -> None:
    secret = "ab" * 31 + "XY"
    intake.take([raw([wire(1, person=secret)]), raw([wire(1, person=secret, kind=secret)])])
    assert "person" in caplog.text
    assert secret not in caplog.text


def test_a_birth_brings_a_device_online_and_its_will_takes_it_off(
    intake: Intake, store: Store
) -> None:
    topic = "kp1/bus-1/u/st"
    birth = Birth(2, EPOCH, (Bounds(EPOCH, 1, 9),), "0.1.0")
    assert intake.take([Message(topic, encode_birth(birth))]) == []
    intake.take([Message(topic, encode_will(1))])
    assert store.devices()[0].online
    assert intake.status.stale_states == 1
    intake.take([Message(topic, encode_will(2)), Message(topic, b"")])
    assert not store.devices()[0].online


def test_without_a_commit_there_is_no_ack(intake: Intake, store: Store) -> None:
    with store.engine.begin() as db:
        db.exec_driver_sql("DROP TABLE event")
    with pytest.raises(CityError):
        intake.take([batch(1)])


@pytest.mark.slow
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from([*wire(1), "name", "x"]), inner, max_size=6)
        ),
        max_leaves=20,
    )
)
def test_whatever_an_event_holds_the_good_one_beside_it_is_committed(
    intake: Intake, value: Any
) -> None:
    epoch = uuid.uuid4().hex  # a journal each: the same number with other content is another fault
    changed = wire(2)
    changed.update(value if isinstance(value, dict) else {"place": value})
    changed["seq"], changed["epoch"] = 2, epoch
    (ack,) = intake.take([raw([{**wire(1), "epoch": epoch}, changed])])
    assert decode_ack(ack.payload).upto == 2
