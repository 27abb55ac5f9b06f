"""The health board: counts exactly under threads, and shows alarms while they last."""

from __future__ import annotations

import logging
import threading

import pytest

from agent.device.health import HealthBoard


def test_counters_are_exact_under_threads() -> None:
    board = HealthBoard()

    def work() -> None:
        for _ in range(2000):
            board.count("frames")
            board.count("faces", 2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board.snapshot().counters == {"frames": 8000, "faces": 16000}


def test_an_alarm_lasts_until_it_is_cleared() -> None:
    board = HealthBoard()
    board.alarm("camera", "camera: gone")
    board.alarm("camera", "camera: gone for 3 s")
    assert board.snapshot().alarms == ("camera: gone for 3 s",)
    board.clear("camera")
    board.clear("never-raised")
    assert board.snapshot().alarms == ()


def test_an_alarm_is_logged_once_when_it_comes_and_once_when_it_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    board = HealthBoard()
    for attempt in range(3):
        board.alarm("journal", f"the disk is full, attempt {attempt}")
    for _ in range(2):
        board.clear("journal")
    board.alarm("journal", "again")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert said == [
        ("ERROR", "alarm journal: the disk is full, attempt 0"),
        ("INFO", "alarm journal is over"),
        ("ERROR", "alarm journal: again"),
    ]


def test_sources_are_asked_at_every_snapshot() -> None:
    board = HealthBoard()
    alarms: list[str] = []
    board.watch_alarms(lambda: alarms)
    board.watch_detail("pending", lambda: len(alarms))
    assert board.snapshot().alarms == ()
    alarms.append("lamps: no GPIO chip")
    snapshot = board.snapshot()
    assert snapshot.alarms == ("lamps: no GPIO chip",)
    assert snapshot.detail == {"pending": 1}


def test_a_source_may_use_the_board_itself() -> None:
    """A source that counts must not meet the board's own lock."""
    board = HealthBoard()

    def ask() -> int:
        board.count("asked")
        return 1

    board.watch_detail("answer", ask)
    assert board.snapshot().detail == {"answer": 1}


def test_a_snapshot_does_not_change_afterwards() -> None:
    board = HealthBoard()
    board.state("ready")
    board.detail("version", "0.1.0")
    before = board.snapshot()
    board.state("stopping")
    board.count("frames")
    board.detail("version", "0.2.0")
    assert (before.state, before.counters, before.detail) == ("ready", {}, {"version": "0.1.0"})
