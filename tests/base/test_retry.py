"""A fleet does not come back at once, and a restart does not make a device forget to be patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.base.retry import Backoff
from agent.link.uplink.state import SyncState


def test_the_wait_is_drawn_up_to_a_ceiling_that_doubles() -> None:
    longest = Backoff(SyncState(None), draw=lambda: 1.0)
    assert [longest.failed() for _ in range(10)] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_the_wait_is_never_below_the_floor() -> None:
    shortest = Backoff(SyncState(None), draw=lambda: 0.0)
    assert {shortest.failed() for _ in range(50)} == {1.0}


def test_two_devices_draw_different_waits() -> None:
    waits = {round(Backoff(SyncState(None)).failed(), 6) for _ in range(20)}
    assert len(waits) > 10


def test_success_forgets_the_failures() -> None:
    backoff = Backoff(SyncState(None), draw=lambda: 1.0)
    for _ in range(5):
        backoff.failed()
    backoff.succeeded()
    assert backoff.at_start() == 0.0
    assert backoff.failed() == 2.0


def test_failures_are_remembered_over_a_restart(tmp_path: Path) -> None:
    first = Backoff(SyncState(tmp_path / "sync.json"), draw=lambda: 1.0)
    for _ in range(4):
        first.failed()
    again = Backoff(SyncState(tmp_path / "sync.json"), draw=lambda: 1.0)
    assert again.at_start() == 16.0
    assert again.failed() == 32.0


def test_who_restarts_after_a_long_outage_waits_half_a_minute_at_most_and_not_all_alike() -> None:
    """A board that reboots again and again is patient; so may be who has just mended it."""
    state = SyncState(None)
    for _ in range(20):
        Backoff(state).failed()
    longest = Backoff(state, draw=lambda: 1.0)
    assert longest.at_start() == 30.0
    assert longest.failed() == 300.0
    assert len({round(Backoff(state).at_start(), 6) for _ in range(20)}) > 10


def test_the_connection_counter_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "sync.json"
    assert [SyncState(path).next_connection() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"connection": "x"}', b"\xff\x00"])
def test_a_damaged_state_file_costs_the_memory_and_nothing_else(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sync.json"
    path.write_bytes(content)
    assert SyncState(path).next_connection() == 1
    assert "unreadable" in caplog.text
    assert SyncState(path).next_connection() == 2


def test_a_state_that_cannot_be_written_is_said_once_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = SyncState(tmp_path / "missing" / "sync.json")
    assert [state.next_connection(), state.next_connection()] == [1, 2]
    assert caplog.text.count("cannot be written") == 1
