"""Commands are read strictly and carried out once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MessageError
from agent.sync.commands import (
    MAX_REPLAY,
    Executed,
    Replay,
    Result,
    decode_command,
    decode_result,
    encode_replay,
    encode_result,
)
from agent.sync.state import REMEMBERED_COMMANDS, SyncState
from tests.events import EPOCH

REPLAY = Replay("a1", EPOCH, 3, 90, refused=True)


def test_a_command_and_its_result_come_back_as_they_went() -> None:
    assert decode_command(encode_replay(REPLAY)) == REPLAY
    assert decode_result(encode_result(Result("a1", "done", 7))) == Result("a1", "done", 7)


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
def test_a_command_with_one_wrong_field_is_refused(change: dict[str, object]) -> None:
    value = json.loads(encode_replay(REPLAY)) | change
    with pytest.raises(MessageError):
        decode_command(json.dumps(value).encode())


@given(st.binary(max_size=300))
def test_bytes_that_are_no_command_are_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        decode_command(payload)


def test_a_command_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(MessageError, match="at most"):
        decode_command(encode_replay(REPLAY) + b" " * 5_000)


def test_an_id_is_carried_out_once_even_after_a_restart(tmp_path: Path) -> None:
    done: list[Replay] = []

    def act(command: Replay) -> int:
        done.append(command)
        return 5

    for _ in range(2):
        state = SyncState(tmp_path / "sync.json")
        executed = Executed(state.commands, state.keep_command)
        assert executed.once(REPLAY, act).state == "done"
    assert done == [REPLAY]


def test_a_command_that_cannot_be_carried_out_may_come_again() -> None:
    state = SyncState(None)
    executed = Executed(state.commands, state.keep_command)

    def act(_: Replay) -> int:
        raise MessageError("no such epoch")

    assert executed.once(REPLAY, act) == Result("a1", "failed")
    assert state.commands() == []


def test_only_the_newest_ids_are_remembered() -> None:
    state = SyncState(None)
    for number in range(REMEMBERED_COMMANDS + 5):
        state.keep_command(str(number))
    assert len(state.commands()) == REMEMBERED_COMMANDS
    assert state.commands()[-1] == str(REMEMBERED_COMMANDS + 4)
