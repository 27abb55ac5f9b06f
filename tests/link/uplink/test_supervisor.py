"""The sync thread outlives broker, journal and defects, and ends when it is told to."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.base.errors import JournalError, LinkError, MessageError
from agent.base.ports import Duty, Publish
from agent.base.retry import Backoff
from agent.base.values import Ack, LinkDown, LinkEvent, LinkUp, Message, Standing
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import Supervisor
from agent.link.uplink.uplink import UplinkLimits
from agent.protocol.items import decode_event
from agent.protocol.messages import encode_ack, unpack
from tests.link.uplink.outbox import MemoryOutbox
from tests.waiting import until

QUICK = UplinkLimits(batch_seconds=0.0, ack_timeout_seconds=5.0)


class CityLink:
    """A link whose other end commits and acknowledges at once, or fails as it is told."""

    def __init__(self, will: Message, trouble: Callable[[], list[LinkEvent]]) -> None:
        self.will = will
        self.published: list[tuple[str, bytes, bool]] = []
        self.closed = False
        self.owed = 0  # messages that the broker takes over, one a turn
        self._trouble = trouble
        self._waiting: list[LinkEvent] = []
        self._pause = threading.Event()

    def open(self) -> None:
        self._waiting = [LinkUp()]

    def turn(self, seconds: float) -> list[LinkEvent]:
        events = [*self._trouble(), *self._waiting]
        self._waiting = []
        self.owed = max(0, self.owed - 1)
        if not events:
            self._pause.wait(min(seconds, 0.01))
        return events

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.published.append((topic, payload, retain))
        if topic.endswith("/u/ev"):
            last = decode_event(unpack(payload)[-1])
            ack = encode_ack(Ack(last.epoch, last.seq, (), (), 0))
            self._waiting.append(Message("kp1/bus-1/d/ack", ack))

    @property
    def unanswered(self) -> int:
        return self.owed

    def close(self) -> None:
        self.closed = True


class Rig:
    """A supervisor with fakes around it; ``troubles`` happen one a turn."""

    def __init__(
        self,
        state: SyncState | None = None,
        duties: Sequence[Duty] = (),
        standing: Callable[[], Standing] = Standing,
    ) -> None:
        self.outbox = MemoryOutbox()
        self.links: list[CityLink] = []
        self.troubles: list[Exception | LinkEvent] = []
        self.journal_troubles: list[Exception] = []
        self.state = state or SyncState(None)
        self.supervisor = Supervisor(
            "bus-1",
            "0.1.0",
            journal=self._journal,
            link=self._link,
            state=self.state,
            backoff=Backoff(self.state, min_seconds=0.01, max_seconds=0.02),
            limits=QUICK,
            duties=duties,
            standing=standing,
        )

    def _journal(self) -> MemoryOutbox:
        if self.journal_troubles:
            raise self.journal_troubles.pop(0)
        return self.outbox

    def _link(self, will: Message) -> CityLink:
        self.links.append(CityLink(will, self._trouble))
        return self.links[-1]

    def _trouble(self) -> list[LinkEvent]:
        if not self.troubles:
            return []
        trouble = self.troubles.pop(0)
        if isinstance(trouble, Exception):
            raise trouble
        return [trouble]

    def drained(self) -> bool:
        status = self.supervisor.status
        return status.connected and status.pending == 0 and status.acked >= len(self.outbox.states)

    def __enter__(self) -> Rig:
        self.supervisor.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.supervisor.stop()


def test_events_reach_the_city_and_the_status_says_so() -> None:
    rig = Rig()
    rig.outbox.fill(250)
    with rig:
        until(rig.drained)
        rig.outbox.fill(3)
        until(rig.drained)
    status = rig.supervisor.status
    assert (status.acked, status.quarantined, status.restarts) == (253, 0, 0)
    assert status.last_ack_mono_ms is not None
    assert (status.connected, status.reason) == (False, "stopped")


def test_birth_and_will_carry_one_connection_number_that_counts_up(tmp_path: Path) -> None:
    state = SyncState(tmp_path / "sync.json")
    rig = Rig(state)
    with rig:
        until(lambda: rig.supervisor.status.connected)
        rig.troubles.append(LinkDown("cut"))
        until(lambda: rig.supervisor.status.reconnects == 1)
    births = []
    for link in rig.links:
        topic, payload, retain = link.published[0]
        assert (topic, retain, link.will.topic) == ("kp1/bus-1/u/st", True, topic)
        birth, will = json.loads(payload), json.loads(link.will.payload)
        assert will == {"online": False, "connection": birth["connection"]}
        births.append(birth)
    assert [birth["connection"] for birth in births] == [1, 2]
    assert births[0] == {
        "online": True,
        "epoch": rig.outbox.epoch,
        "epochs": [{"epoch": rig.outbox.epoch, "first": 1, "last": 0}],
        "clocks": [],
        "connection": 1,
        "software": "0.1.0",
        "gallery": {"version": 0, "root": ""},
        "settings_version": 0,
    }
    assert SyncState(tmp_path / "sync.json").next_connection() == 3


def test_an_orderly_stop_says_goodbye_because_the_broker_then_drops_the_will() -> None:
    rig = Rig()
    with rig:
        until(lambda: rig.supervisor.status.connected)
    topic, payload, retain = rig.links[-1].published[-1]
    assert (topic, json.loads(payload)["online"], retain) == ("kp1/bus-1/u/st", False, True)
    assert rig.links[-1].closed


@pytest.mark.slow
def test_an_orderly_stop_waits_until_the_broker_has_what_was_said_last_but_not_for_ever() -> None:
    for owed in (50, 10**9):
        rig = Rig()
        with rig:
            until(lambda rig=rig: rig.supervisor.status.connected)  # type: ignore[misc]
            rig.links[-1].owed = owed
        assert rig.links[-1].closed
        assert (rig.links[-1].owed == 0) == (owed == 50)


@pytest.mark.parametrize(
    "trouble",
    [LinkDown("cut"), LinkError("gone"), ValueError("a defect"), JournalError("disk full")],
    ids=lambda trouble: type(trouble).__name__,
)
def test_whatever_ends_a_connection_the_events_still_arrive(trouble: Exception | LinkEvent) -> None:
    rig = Rig()
    rig.outbox.fill(120)
    rig.troubles = [trouble, trouble, trouble]
    with rig:
        until(rig.drained)
        assert len(rig.links) == 4
        assert all(link.closed for link in rig.links[:3])


def test_a_defect_is_logged_whole_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.troubles = [ZeroDivisionError("defect")]
    with rig:
        until(lambda: rig.supervisor.status.connected)
    assert rig.supervisor.status.restarts == 1
    assert "ZeroDivisionError" in caplog.text


def test_a_journal_that_cannot_be_opened_is_tried_again() -> None:
    rig = Rig()
    rig.outbox.fill(5)
    rig.journal_troubles = [JournalError("disk full"), OSError("worse")]
    with rig:
        until(rig.drained)
    assert rig.supervisor.status.restarts == 1


def test_a_loss_is_logged_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.troubles = [LinkDown("no route")] * 5
    with caplog.at_level(logging.INFO), rig:
        until(lambda: rig.supervisor.status.connected)
    assert [record.getMessage() for record in caplog.records] == [
        "sync is down: no route",
        "connected to the city again",
    ]


def test_while_it_is_down_the_status_says_why_and_how_much_waits() -> None:
    rig = Rig()
    rig.outbox.fill(17)
    rig.troubles = [LinkDown("refused: not authorized")] * 1_000
    with rig:
        until(lambda: rig.supervisor.status.pending == 17)
        status = rig.supervisor.status
        assert (status.connected, status.reason) == (False, "refused: not authorized")


def test_a_message_on_another_topic_changes_nothing() -> None:
    rig = Rig()
    rig.outbox.fill(2)
    rig.troubles = [Message("kp1/bus-1/d/other", b"?"), Message("kp1/bus-1/d/ack", b"?")]
    with rig:
        until(rig.drained)
    assert rig.supervisor.status.rejected_messages == 1


def test_an_ack_ends_the_patience_and_a_mere_connection_does_not() -> None:
    rig = Rig()
    rig.state.set_failures(3)
    with rig:
        until(lambda: rig.supervisor.status.connected)
        assert rig.state.failures == 3
        rig.outbox.fill()
        until(rig.drained)
        assert rig.state.failures == 0


def test_it_stops_within_a_waiting_time_and_starts_only_once() -> None:
    rig = Rig()
    rig.troubles = [LinkDown("no route")] * 1_000
    with rig, pytest.raises(RuntimeError, match="already"):
        rig.supervisor.start()
    assert rig.supervisor.status.reason == "stopped"


def test_stopping_what_was_never_started_is_nothing() -> None:
    assert Rig().supervisor.stop()


class Errand:
    """A duty that notes its calls, and fails as it is told."""

    def __init__(self, *topics: str, trouble: Exception | None = None) -> None:
        self.topics = topics
        self.trouble = trouble
        self.calls: list[str] = []
        self.received: list[tuple[str, bytes]] = []
        self.turns = 0
        self.publish: Publish | None = None

    def connected(self, publish: Publish) -> None:
        self.publish = publish
        self.calls.append("connected")
        publish("kp1/bus-1/u/rep", b"hello", retain=True)

    def disconnected(self) -> None:
        self.publish = None
        self.calls.append("disconnected")

    def receive(self, topic: str, payload: bytes) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.received.append((topic, payload))

    def turn(self, now_ms: int) -> None:
        self.turns += 1
        if isinstance(self.trouble, LinkError):
            raise self.trouble


def test_a_duty_shares_the_connection_and_hears_its_own_topics_alone() -> None:
    head, parts = Errand("kp1/bus-1/d/cfg"), Errand("kp1/bus-1/d/gal/#")
    rig = Rig(duties=[head, parts])
    rig.troubles = [Message("kp1/bus-1/d/cfg", b"1"), Message("kp1/bus-1/d/gal/body", b"2")]
    rig.troubles += [Message("kp1/bus-1/d/cfg/x", b"3"), Message("kp1/bus-1/d/galx", b"4")]
    with rig:
        until(lambda: not rig.troubles and head.turns > 3)
        rig.troubles.append(LinkDown("cut"))
        until(lambda: rig.supervisor.status.reconnects == 1)
    assert head.received == [("kp1/bus-1/d/cfg", b"1")]
    assert parts.received == [("kp1/bus-1/d/gal/body", b"2")]
    assert head.calls == ["connected", "disconnected"] * 2
    assert ("kp1/bus-1/u/rep", b"hello", True) in rig.links[0].published


def test_a_defect_in_a_duty_costs_neither_events_nor_the_other_duty(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = Errand("kp1/bus-1/d/cfg", trouble=ZeroDivisionError("defect"))
    good = Errand("kp1/bus-1/d/cfg")
    rig = Rig(duties=[bad, good])
    rig.outbox.fill(30)
    rig.troubles = [Message("kp1/bus-1/d/cfg", b"x")] * 5
    with rig:
        until(lambda: rig.drained() and rig.supervisor.status.duty_failures == 5)
    assert len(good.received) == 5
    assert rig.supervisor.status.restarts == rig.supervisor.status.reconnects == 0
    assert caplog.text.count("ZeroDivisionError") == 3  # for the 1st, 2nd and 4th time


def test_nonsense_for_a_duty_is_counted_as_nonsense() -> None:
    rig = Rig(duties=[Errand("kp1/bus-1/d/cfg", trouble=MessageError("not signed"))])
    rig.troubles = [Message("kp1/bus-1/d/cfg", b"x")] * 3
    with rig:
        until(lambda: rig.supervisor.status.rejected_messages == 3)
    assert rig.supervisor.status.duty_failures == 0


def test_a_duty_that_finds_the_connection_gone_ends_it_for_all() -> None:
    duty = Errand(trouble=LinkError("gone"))
    rig = Rig(duties=[duty])
    with rig:
        until(lambda: len(rig.links) > 1)
        duty.trouble = None
        rig.outbox.fill(3)
        until(rig.drained)
    assert duty.calls[:2] == ["connected", "disconnected"]


def test_what_is_in_force_is_in_the_birth_and_told_again_when_it_changes() -> None:
    standing = Standing(settings_version=3)
    rig = Rig(standing=lambda: standing)

    def told() -> list[int]:
        births = [json.loads(payload) for topic, payload, _ in published() if "/u/st" in topic]
        return [birth["settings_version"] for birth in births if birth["online"]]

    def published() -> list[tuple[str, bytes, bool]]:
        return list(rig.links[0].published)

    with rig:
        until(lambda: told() == [3])
        standing = Standing(gallery_version=7, gallery_root="ab", settings_version=4)
        until(lambda: told() == [3, 4])
    birth = json.loads(published()[1][1])
    assert birth["gallery"] == {"version": 7, "root": "ab"}
