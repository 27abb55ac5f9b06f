"""Commands are read strictly, and each is carried out once and in time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import GalleryError, MessageError, ProvisioningError
from agent.base.events import Moment
from agent.base.values import BUILT_MS
from agent.link.control.commanded import Commands, Ending
from agent.link.control.trustedtime import TrustedTime
from agent.link.uplink.state import REMEMBERED_COMMANDS, Answered, SyncState
from agent.protocol.commands import MAX_REPLAY, Replay, read_replay, replay_arguments
from agent.protocol.control import (
    Command,
    CommandResult,
    decode_result,
    read_unsigned,
    sign_command,
)
from agent.protocol.signed import Trust
from tests.events import EPOCH
from tests.protocol.town import Town, make_town, unsigned
from tests.waiting import LATE_SECONDS, until

REPLAY = Replay(EPOCH, 3, 90, refused=True)
NOW_MS = time.time_ns() // 1_000_000
KEY = "ab" * 32  # of a resident


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town") / "ca")


class Bench:
    """The duty on a device, with a city that signs and hears its answers."""

    def __init__(
        self,
        town: Town,
        path: Path | None = None,
        *,
        trust: Callable[[], Trust | None] | None = None,
        known_ms: int | None = NOW_MS,
        **more: Any,
    ) -> None:
        self.town = town
        self.answers: list[CommandResult] = []
        self.replays: list[Replay] = []
        self.time = TrustedTime(mono_ms=lambda: 0)
        if known_ms is not None:
            self.time.learn(known_ms)
        self.state = SyncState(path)
        self.commands = Commands(
            "bus-1", self.state, trust=trust or (lambda: town.trust), time=self.time, **more
        )
        self.commands.replay_with(self._replayed)
        self.commands.connected(self._publish)

    def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        assert (topic, retain) == ("kp1/bus-1/u/res", False)
        self.answers.append(decode_result(payload))

    def _replayed(self, replay: Replay) -> int:
        self.replays.append(replay)
        return 7

    def signed(self, command: str = "ping", **changes: Any) -> bytes:
        told: dict[str, Any] = {
            **{"device": "bus-1", "id": "c1", "counter": 5, "issued_ms": NOW_MS - 1_000},
            **{"ttl_seconds": 60, "command": command, "arguments": {}},
        }
        return sign_command(Command(**(told | changes)), self.town.command)

    def receive(self, payload: bytes) -> None:
        self.commands.receive("kp1/bus-1/d/cmd", payload)

    def said(self) -> list[tuple[str, str]]:
        self.commands.turn(0)
        return [(answer.id, answer.state) for answer in self.answers]


def test_a_replay_comes_back_as_it_went_signed_or_not() -> None:
    read = read_unsigned(unsigned("a1", REPLAY), "bus-1")
    assert (read.device, read.id, read.command) == ("bus-1", "a1", "replay")
    assert read_replay(read.arguments) == REPLAY
    assert read_replay(replay_arguments(REPLAY)) == REPLAY


@pytest.mark.parametrize(
    "change",
    [
        {"command": "restart"},
        {"command": None},
        {"id": ""},
        {"id": "x" * 65},
        {"id": 5},
        {"epoch": "../.."},
        {"from": 0},
        {"from": 91},
        {"from": True},
        {"to": MAX_REPLAY + 3},
        {"to": "90"},
        {"refused": 1},
    ],
)
def test_an_unsigned_command_with_one_wrong_field_is_refused(change: dict[str, object]) -> None:
    value = json.loads(unsigned("a1", REPLAY)) | change
    with pytest.raises(MessageError):
        read_unsigned(json.dumps(value).encode(), "bus-1")


@given(st.binary(max_size=300))
def test_bytes_that_are_no_command_are_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        read_unsigned(payload, "bus-1")


def test_a_command_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(MessageError, match="at most"):
        read_unsigned(unsigned("a1", REPLAY) + b" " * 5_000, "bus-1")


def test_a_signed_command_is_carried_out_and_answered(town: Town) -> None:
    bench = Bench(town)
    bench.receive(bench.signed())
    bench.receive(bench.signed("replay", id="c2", arguments=replay_arguments(REPLAY)))
    assert bench.said() == [("c1", "done"), ("c2", "done")]
    assert bench.answers[1].detail == {"count": 7}
    assert bench.replays == [REPLAY]
    assert bench.commands.carried_out == 2


def test_what_is_not_signed_for_this_device_by_the_citys_command_key_changes_nothing(
    town: Town, tmp_path: Path
) -> None:
    bench = Bench(town)
    foreign = Command("bus-1", "c1", 5, NOW_MS, 60, "ping")
    refused = [
        b"",
        b"{}",
        unsigned("a1", REPLAY),
        bench.signed(device="bus-2"),
        bench.signed()[:-2],
        sign_command(foreign, town.gallery),
        sign_command(foreign, town.device("bus-1")),
        sign_command(foreign, make_town(tmp_path / "other").command),
    ]
    for payload in refused:
        with pytest.raises(MessageError):
            bench.receive(payload)
    assert bench.said() == []
    assert bench.state.answered("c1") is None


def test_a_device_that_was_never_provisioned_takes_an_unsigned_replay_alone(town: Town) -> None:
    bench = Bench(town, trust=lambda: None)
    bench.receive(unsigned("a1", REPLAY))
    assert bench.said() == [("a1", "done")]
    with pytest.raises(MessageError):
        bench.receive(bench.signed())


def test_a_device_whose_identity_is_damaged_takes_nothing(town: Town) -> None:
    def damaged() -> Trust | None:
        raise ProvisioningError("identity is damaged")

    bench = Bench(town, trust=damaged)
    for payload in (unsigned("a1", REPLAY), bench.signed()):
        with pytest.raises(MessageError, match="damaged"):
            bench.receive(payload)
    assert bench.said() == []


def test_an_id_is_carried_out_once_even_after_a_restart(town: Town, tmp_path: Path) -> None:
    bench = Bench(town, tmp_path / "sync.json")
    payload = bench.signed("replay", arguments=replay_arguments(REPLAY))
    for _ in range(3):
        bench.receive(payload)
    assert [answer.detail for answer in bench.answers] == [{"count": 7}] * 3
    restarted = Bench(town, tmp_path / "sync.json")
    restarted.receive(payload)
    assert (len(bench.replays), restarted.replays) == (1, [])
    assert restarted.said() == [("c1", "done")]


def test_an_expired_command_is_answered_as_such_and_never_done(town: Town) -> None:
    bench = Bench(town)
    bench.receive(bench.signed("replay", arguments=replay_arguments(REPLAY), ttl_seconds=1))
    assert bench.said() == [("c1", "expired")]
    assert bench.replays == []


def test_without_any_time_only_what_does_no_harm_late_is_done(town: Town) -> None:
    done: list[str] = []
    ending = Ending(lambda: [], lambda: done.append("restart"))
    bench = Bench(town, known_ms=None, endings={"restart": ending})
    bench.receive(bench.signed("ping", id="a"))
    bench.receive(bench.signed("replay", id="b", arguments=replay_arguments(REPLAY)))
    bench.receive(bench.signed("restart", id="c"))
    assert bench.said() == [("a", "done"), ("b", "done"), ("c", "failed")]
    assert "does not know the time" in bench.answers[2].reason
    bench.time.learn(NOW_MS)
    bench.receive(bench.signed("restart", id="c"))  # the city has seen it fail: it stays so
    assert done == []
    bench.receive(bench.signed("restart", id="d"))
    assert done == ["restart"]


def test_the_citys_word_on_the_time_counts_only_while_the_clock_is_not_set() -> None:
    moment = Moment("boot", 0, NOW_MS, "saved", -1)
    clock = TrustedTime(lambda: moment, mono_ms=lambda: 50)
    assert clock.now_ms() is None
    clock.learn(BUILT_MS - 1)
    assert clock.now_ms() is None
    clock.learn(NOW_MS + 9)
    clock.learn(NOW_MS + 3)  # it never goes back
    assert clock.now_ms() == NOW_MS + 9
    moment = Moment("boot", 0, NOW_MS, "ntp", 5)
    assert clock.now_ms() == NOW_MS


def test_slow_work_is_done_beside_and_told_when_it_is_finished(town: Town) -> None:
    gate, ran = threading.Event(), []

    def handler(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        ran.append(dict(arguments))
        assert gate.wait(LATE_SECONDS)
        return {"found": True}

    bench = Bench(town, handlers={"revoke-now": handler})
    payload = bench.signed("revoke-now", arguments={"key": KEY})
    bench.receive(payload)
    bench.receive(payload)  # the city repeats it meanwhile
    assert bench.said() == [("c1", "received")] * 2
    gate.set()
    until(lambda: bench.said()[-1] == ("c1", "done"))
    assert ran == [{"key": bytes.fromhex(KEY)}]
    assert bench.answers[-1].detail == {"found": True}


def test_a_handler_that_fails_says_why_and_a_defect_harms_nobody(town: Town) -> None:
    def fails(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise GalleryError("the disk is full;\nfree some space")

    def broken(_: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"not": {1, 2}}

    bench = Bench(town, handlers={"revoke-now": fails, "status": broken})
    bench.receive(bench.signed("revoke-now", id="a", arguments={"key": KEY}))
    bench.receive(bench.signed("status", id="b"))
    bench.receive(bench.signed("diagnostics", id="c"))
    until(lambda: len(bench.said()) == 5)
    reasons = {answer.id: answer.reason for answer in bench.answers if answer.state == "failed"}
    assert reasons == {
        "a": "the disk is full; free some space",
        "b": "defect: TypeError",
        "c": "this device has no diagnostics",
    }


def test_a_restart_is_done_once_however_often_it_is_commanded(town: Town, tmp_path: Path) -> None:
    ended: list[str] = []

    def bench() -> Bench:
        ending = Ending(lambda: [], lambda: ended.append("restart"))
        return Bench(town, tmp_path / "sync.json", endings={"restart": ending})

    first = bench()
    payload = first.signed("restart")
    first.receive(payload)
    assert (first.said(), ended) == ([("c1", "received")], ["restart"])
    second = bench()  # after the restart: that it is back is the outcome
    assert second.said() == [("c1", "done")]
    second.receive(payload)
    third = bench()
    third.receive(payload)
    assert (third.said(), ended) == ([("c1", "done")], ["restart"])


def test_a_cut_between_a_deed_and_its_record_does_it_again_rather_than_never(
    town: Town, tmp_path: Path
) -> None:
    ran: list[str] = []

    def revoke(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        ran.append(arguments["key"].hex())
        return {"found": True}

    first = Bench(town, tmp_path / "sync.json", handlers={"revoke-now": revoke})
    payload = first.signed("revoke-now", arguments={"key": KEY})
    first.receive(payload)
    until(lambda: ran == [KEY])  # and the power goes before the sync thread hears of it
    second = Bench(town, tmp_path / "sync.json", handlers={"revoke-now": revoke})
    second.receive(payload)
    until(lambda: second.said()[-1] == ("c1", "done"))
    third = Bench(town, tmp_path / "sync.json", handlers={"revoke-now": revoke})
    third.receive(payload)
    assert (third.said(), ran) == ([("c1", "done")], [KEY, KEY])


def test_a_reload_to_settings_that_cannot_be_read_is_refused(town: Town) -> None:
    ended: list[str] = []
    ending = Ending(lambda: ["camera.kind: no such"], lambda: ended.append("reload"))
    bench = Bench(town, endings={"reload": ending})
    bench.receive(bench.signed("reload"))
    assert bench.said() == [("c1", "failed")]
    assert bench.answers[0].reason == "camera.kind: no such"
    assert ended == []


def test_a_restart_that_cannot_be_recorded_is_not_done(town: Town, tmp_path: Path) -> None:
    ended: list[str] = []
    ending = Ending(lambda: [], lambda: ended.append("restart"))
    bench = Bench(town, tmp_path / "gone" / "sync.json", endings={"restart": ending})
    bench.receive(bench.signed("restart"))
    assert bench.said() == [("c1", "failed")]
    assert "recorded" in bench.answers[0].reason
    assert ended == []


def test_what_is_older_than_all_that_is_remembered_is_refused(town: Town, tmp_path: Path) -> None:
    bench = Bench(town, tmp_path / "sync.json")
    for counter in range(1, REMEMBERED_COMMANDS + 6):
        bench.receive(bench.signed(id=f"c{counter}", counter=counter))
    restarted = Bench(town, tmp_path / "sync.json")
    assert restarted.state.floor == 5
    for counter in (1, 5):
        with pytest.raises(MessageError, match="older"):
            restarted.receive(bench.signed(id=f"c{counter}", counter=counter))
    restarted.receive(bench.signed(id="c6", counter=6))
    assert restarted.said() == [("c6", "done")]


def test_answers_wait_for_the_next_connection(town: Town) -> None:
    bench = Bench(town, handlers={"status": lambda _: {"state": "ready"}})
    bench.receive(bench.signed("status"))
    bench.commands.disconnected()
    until(lambda: bench.state.answered("c1") is not None or bench.said() is None)
    assert bench.answers[-1].state == "received"
    bench.commands.connected(bench._publish)
    assert bench.answers[-1] == CommandResult("c1", "done", detail={"state": "ready"})


def test_a_file_from_when_replay_was_all_there_was_still_counts(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    path.write_text('{"connection": 7, "failures": 2, "commands": ["old-1", "old-2"]}')
    state = SyncState(path)
    assert (state.failures, state.floor) == (2, 0)
    assert state.answered("old-2") == Answered("old-2", 0, "replay", "done")
    assert state.next_connection() == 8
