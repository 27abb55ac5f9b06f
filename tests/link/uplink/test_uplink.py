"""The uplink decides what goes out when, and believes nothing but the city's acks."""

from __future__ import annotations

import logging

import pytest

from agent.base.errors import LinkError, MessageError, UsageError
from agent.base.events import StoredEvent
from agent.base.values import Ack, Nack
from agent.link.uplink.uplink import Totals, Uplink, UplinkLimits
from agent.protocol.commands import Replay
from agent.protocol.items import Lost, decode_item
from agent.protocol.messages import encode_ack, unpack
from tests.events import EPOCH, OTHER_EPOCH, enrolment
from tests.link.uplink.outbox import MemoryOutbox


class Line:
    """An uplink with its outbox, its counters and what it sent."""

    def __init__(self, outbox: MemoryOutbox, limits: UplinkLimits | None = None) -> None:
        self.outbox = outbox
        self.totals = Totals()
        self.sent: list[list[int]] = []
        self.told: list[Lost] = []
        self.broken = False
        self.uplink = Uplink(outbox, self._publish, limits or UplinkLimits(), self.totals)
        self.uplink.connected()

    def _publish(self, payload: bytes) -> None:
        if self.broken:
            raise LinkError("not connected")
        items = [decode_item(item) for item in unpack(payload)]
        lost = [item for item in items if isinstance(item, Lost)]
        self.told += lost
        if not lost:
            self.sent.append([item.seq for item in items if isinstance(item, StoredEvent)])

    def turn(self, now_ms: int) -> list[list[int]]:
        """The batches one turn sends."""
        before = len(self.sent)
        self.uplink.turn(now_ms)
        return self.sent[before:]

    def ack(self, upto: int, *have: tuple[int, int], nack: tuple[Nack, ...] = ()) -> bool:
        ack = Ack(self.outbox.epoch, upto, have, nack, 1_790_000_000_000)
        return self.uplink.receive_ack(encode_ack(ack), 9_000)


def run(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


def test_a_full_batch_leaves_at_once_and_the_rest_waits_for_company() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(130)
    assert line.turn(0) == [run(1, 100)]
    assert line.turn(1_999) == []
    assert line.turn(2_000) == [run(101, 130)]


def test_a_batch_that_fills_while_it_waits_leaves_at_once() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(60)
    assert line.turn(0) == []
    line.outbox.fill(60)
    assert line.turn(100) == [run(1, 100)]


def test_the_wait_begins_with_the_event_and_not_with_the_connection() -> None:
    line = Line(MemoryOutbox())
    assert line.turn(0) == []
    line.outbox.fill()
    assert line.turn(60_000) == []
    assert line.turn(62_000) == [[1]]


def test_at_most_four_batches_are_in_flight() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(1_000)
    assert len(line.turn(0)) == 4
    assert line.turn(10) == []
    line.ack(100)
    assert line.turn(20) == [run(401, 500)]


def test_acks_in_any_order_land_what_they_name() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(300)
    line.turn(0)
    assert line.ack(0, (201, 300))
    assert line.uplink.in_flight == 2
    assert line.ack(0, (101, 200), (250, 260))
    assert line.ack(300)
    assert line.uplink.in_flight == 0
    assert (line.totals.acked, line.uplink.pending()) == (300, 0)
    assert line.totals.last_ack_mono_ms == 9_000


def test_an_overdue_batch_is_sent_again_until_it_is_acknowledged() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(100)
    assert line.turn(0) == [run(1, 100)]
    assert line.turn(29_999) == []
    assert line.turn(30_000) == [run(1, 100)]
    assert line.turn(60_000) == [run(1, 100)]
    line.ack(100)
    assert line.turn(90_000) == []
    assert line.totals.resent_batches == 2


def test_a_new_connection_begins_with_the_first_unacknowledged_event() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(300)
    line.turn(0)
    line.ack(100, (150, 200))
    line.uplink.disconnected()
    assert line.turn(1) == []
    line.uplink.connected()
    assert line.turn(2) == [run(101, 149) + run(201, 251)]
    assert line.turn(2_002) == [run(252, 300)]


def test_what_could_not_be_published_is_not_taken_for_sent() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(100)
    line.broken = True
    with pytest.raises(LinkError):
        line.uplink.turn(0)
    assert line.uplink.in_flight == 0
    line.broken = False
    assert line.turn(1) == [run(1, 100)]


def test_a_refused_event_is_quarantined_and_the_rest_flows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(100)
    line.turn(0)
    line.ack(100, nack=(Nack(7, "bad_kind"),))
    assert line.outbox.states[(EPOCH, 7)] == "bad_kind"
    assert (line.totals.acked, line.totals.quarantined) == (99, 1)
    assert line.uplink.in_flight == 0
    line.ack(100, nack=(Nack(7, "bad_kind"),))  # the city may say it more than once
    assert line.totals.quarantined == 1
    assert caplog.text.count("quarantined") == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"ok",
        encode_ack(Ack("feedbeef", 1, (), (), 0)),
        encode_ack(Ack(EPOCH, 101, (), (), 0)),
        encode_ack(Ack(EPOCH, 0, ((1, 5_000_000),), (), 0)),
        encode_ack(Ack(EPOCH, 0, (), (Nack(101, "bad_kind"),), 0)),
    ],
)
def test_an_ack_that_makes_no_sense_is_counted_and_changes_nothing(payload: bytes) -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(100)
    line.turn(0)
    assert not line.uplink.receive_ack(payload, 1)
    assert line.totals.rejected_messages == 1
    assert (line.uplink.in_flight, line.uplink.pending()) == (1, 100)
    assert line.totals.last_ack_mono_ms is None


def test_a_flood_of_nonsense_is_logged_once_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    line = Line(MemoryOutbox())
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            line.uplink.receive_ack(b"?", 1)
    assert len(caplog.records) == 1
    assert line.totals.rejected_messages == 1_000


def test_a_batch_stays_within_its_bytes_and_what_is_left_does_not_wait() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_bytes=1_024))
    line.outbox.fill(5)
    line.turn(0)
    sent = line.turn(2_000)
    assert [seq for batch in sent for seq in batch] == run(1, 5)
    assert len(sent) > 1


def test_an_enrolment_goes_even_where_batches_are_set_to_be_small() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_bytes=1_024))
    line.outbox.fill(1)
    line.outbox.put(enrolment(2))
    line.outbox.fill(1)
    line.turn(0)
    assert line.turn(2_000) == [[1], [2], [3]]
    assert line.totals.quarantined == 0


def test_an_event_too_big_for_any_batch_is_set_aside_and_blocks_nobody() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(1)
    line.outbox.fill(1, stop="長" * 30_000)
    line.outbox.fill(1)
    line.turn(0)
    assert line.turn(2_000) == [[1, 3]]
    assert line.outbox.states[(EPOCH, 2)] == "too_big"
    assert line.totals.quarantined == 1


def test_events_that_can_never_be_sent_do_not_keep_the_uplink_from_the_next() -> None:
    line = Line(MemoryOutbox())
    line.outbox.fill(250, stop="\udc80")
    line.outbox.fill(1)
    assert line.turn(0) == []
    assert line.turn(2_000) == [[251]]
    assert line.totals.quarantined == 250


def test_earlier_epochs_go_first_and_wait_for_nothing() -> None:
    line = Line(MemoryOutbox(OTHER_EPOCH, EPOCH))
    line.outbox.fill(3, epoch=OTHER_EPOCH)
    line.outbox.fill(2)
    line.uplink.connected()
    assert line.turn(0) == [[1, 2, 3]]
    assert line.turn(2_000) == [[1, 2]]
    ack = Ack(OTHER_EPOCH, 3, (), (), 0)
    assert line.uplink.receive_ack(encode_ack(ack), 1)
    assert line.uplink.pending() == 2


def test_the_birth_names_every_epoch_the_current_one_last() -> None:
    line = Line(MemoryOutbox(OTHER_EPOCH, EPOCH))
    line.outbox.fill(3, epoch=OTHER_EPOCH)
    bounds = line.uplink.bounds()
    assert [(b.epoch, b.first, b.last) for b in bounds] == [(OTHER_EPOCH, 1, 3), (EPOCH, 1, 0)]


def test_limits_beyond_the_protocol_are_refused() -> None:
    with pytest.raises(UsageError, match="batch_bytes = 200000"):
        UplinkLimits(batch_bytes=200_000)


def replay(first: int, last: int, *, epoch: str = EPOCH, refused: bool = False) -> Replay:
    return Replay(epoch, first, last, refused)


def test_a_replay_sends_exactly_what_was_asked_for_again() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_seconds=0))
    line.outbox.fill(60)
    line.turn(0)
    line.ack(60)
    assert line.uplink.replay(replay(11, 20)) == 10
    assert line.turn(1) == [run(11, 20)]
    assert line.told == []


def test_a_replay_does_not_send_twice_what_is_in_flight() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_seconds=0))
    line.outbox.fill(20)
    line.turn(0)
    line.ack(10)
    assert line.uplink.replay(replay(1, 20)) == 10
    assert line.turn(1) == [run(1, 10)]


def test_numbers_that_will_never_come_are_told_as_such_and_hold_up_no_event() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_seconds=0))
    line.outbox.fill(10)
    line.turn(0)
    line.ack(10, nack=(Nack(4, "bad_kind"), Nack(5, "bad_kind")))
    assert line.uplink.replay(replay(3, 6)) == 2
    assert line.turn(1) == [[3, 6]]
    assert [(lost.first, lost.last, lost.code) for lost in line.told] == [
        (4, 5, "bad_kind"),
    ]
    assert line.ack(10)
    assert line.uplink.in_flight == 0
    assert (line.totals.acked, line.totals.quarantined) == (10, 2)  # words count as neither


def test_what_was_refused_goes_out_again_when_the_city_says_so() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_seconds=0))
    line.outbox.fill(3)
    line.turn(0)
    line.ack(3, nack=(Nack(2, "bad_kind"),))
    assert line.uplink.replay(replay(2, 2, refused=True)) == 1
    assert line.turn(1) == [[2]]


def test_a_replay_of_an_earlier_epoch_comes_before_the_present_one_goes_on() -> None:
    line = Line(MemoryOutbox(OTHER_EPOCH, EPOCH), UplinkLimits(batch_seconds=0))
    line.outbox.fill(5, epoch=OTHER_EPOCH)
    line.turn(0)
    line.uplink.receive_ack(encode_ack(Ack(OTHER_EPOCH, 5, (), (), 1)), 0)
    line.turn(1)
    line.uplink.replay(replay(2, 3, epoch=OTHER_EPOCH))
    line.outbox.fill(1)
    assert line.turn(2) == [[2, 3], [1]]


def test_a_replay_beyond_the_end_or_of_an_unknown_epoch_changes_nothing() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_seconds=0))
    line.outbox.fill(5)
    line.turn(0)
    line.ack(5)
    assert line.uplink.replay(replay(6, 90_000)) == 0
    with pytest.raises(MessageError, match="does not have"):
        line.uplink.replay(replay(1, 5, epoch=OTHER_EPOCH))
    assert (line.turn(1), line.told) == ([], [])


def test_what_another_process_requeued_is_noticed_once_nothing_is_in_flight() -> None:
    line = Line(MemoryOutbox(), UplinkLimits(batch_seconds=0))
    line.outbox.fill(5)
    line.turn(0)
    line.ack(5, nack=(Nack(2, "bad_kind"),))
    line.outbox.requeue(EPOCH, 1, 5)
    assert line.turn(1) == []
    line.uplink.look_back()
    assert line.turn(2) == [[2]]
    line.uplink.look_back()  # in flight: not sent twice
    assert line.turn(3) == []
