"""The terminal display: a line a signal, colours where wanted, JSON without a person."""

from __future__ import annotations

import io
import json
import os

import pytest

from agent.base.errors import FeedbackError
from agent.base.events import Moment, Passage, PassageEvent, Place, StoredEvent
from agent.base.values import DoorSignal
from agent.feedback.console import Console

PSEUDONYM = "5e" * 32
STORED = StoredEvent(
    "epoch-1",
    7,
    PassageEvent(
        Passage.BOARDING,
        "bus",
        PSEUDONYM,
        Place("bus", "park-1", "front"),
        Moment("boot-1", 100, 1_795_000_000_000, "ntp", 5),
    ),
)


class Terminal(io.StringIO):
    """A stream that says it is a terminal and counts its flushes."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = 0

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.flushed += 1
        super().flush()


def test_a_notice_is_one_line_with_icon_and_words() -> None:
    stream = Terminal()
    Console(stream, environ={"NO_COLOR": "1"}).show(DoorSignal("welcome", "さくら"), STORED)
    line = stream.getvalue()
    assert line.startswith("○ さくら 様、ご乗車ありがとうございます / ")
    assert line.count("\n") == 1


def test_a_log_gets_the_words_without_colour_and_without_the_nickname() -> None:
    stream = io.StringIO()
    Console(stream, environ={}).show(DoorSignal("welcome", "さくら"), STORED)
    line = stream.getvalue()
    assert line.startswith("○ ご乗車ありがとうございます / ")
    assert "さくら" not in line
    assert "\x1b" not in line


def test_a_terminal_gets_colours_and_each_line_at_once() -> None:
    stream = Terminal()
    console = Console(stream, environ={})
    console.show(DoorSignal("fallback"), None)
    assert "\x1b[1;33m" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[0m\n")
    assert stream.flushed == 1


def test_no_color_is_respected() -> None:
    stream = Terminal()
    Console(stream, environ={"NO_COLOR": "1"}).show(DoorSignal("welcome"), None)
    assert "\x1b" not in stream.getvalue()


def test_json_lines_hold_the_event_and_nobody() -> None:
    stream = io.StringIO()
    console = Console(stream, json_lines=True, mono_ms=lambda: 4711)
    console.show(DoorSignal("welcome", "さくら"), STORED)
    console.show(DoorSignal("fallback"), None)
    first, second = stream.getvalue().splitlines()
    assert json.loads(first) == {
        "signal": "welcome",
        "seq": 7,
        "epoch": "epoch-1",
        "kind": "boarding",
        "mono_ms": 4711,
    }
    assert json.loads(second) == {
        "signal": "fallback",
        "seq": None,
        "epoch": None,
        "kind": None,
        "mono_ms": 4711,
    }
    assert PSEUDONYM not in first
    assert "さくら" not in first


def test_a_terminal_without_japanese_shows_question_marks_instead_of_failing() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Console(stream, environ={}).show(DoorSignal("fallback"), None)
    assert b"Please board as usual" in raw.getvalue()


def test_a_reader_that_went_away_is_a_feedback_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "w", encoding="utf-8")
    console = Console(stream, environ={})
    with pytest.raises(FeedbackError, match="cannot write"):
        console.show(DoorSignal("ready"), None)
    # The line is still in the buffer; closing would flush it into the broken pipe again.
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_closed_stream_is_a_feedback_error() -> None:
    stream = io.StringIO()
    console = Console(stream, environ={})
    stream.close()
    with pytest.raises(FeedbackError, match="closed"):
        console.show(DoorSignal("ready"), None)
