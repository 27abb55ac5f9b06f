"""The words at the door: complete, kind, and never a name."""

from __future__ import annotations

import pytest

from agent.base.errors import UsageError
from agent.base.values import DoorSignal
from agent.feedback.words import COLOURS, SIGNALS, phrase

PLACES = ("bus", "hall")
DIRECTIONS = ("in", "out")


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_signal_has_words_in_both_languages_an_icon_and_a_colour(
    signal: str, place: str, direction: str
) -> None:
    said = phrase(DoorSignal(signal), place, "both", direction)
    japanese, english = said.lines
    assert any("\u3040" <= letter <= "\u30ff" for letter in japanese)  # kana: not only Chinese
    assert english.isascii()
    assert said.icon
    assert said.colour in COLOURS


def test_signals_differ_in_their_icons_not_only_in_their_colours() -> None:
    icons = [phrase(DoorSignal(signal), "bus", "ja").icon for signal in SIGNALS]
    assert len(set(icons)) == len(SIGNALS)


def test_a_passenger_who_is_not_recognised_is_asked_to_board_as_usual() -> None:
    said = phrase(DoorSignal("fallback"), "bus", "ja")
    assert said.lines == ("いつもの方法でご乗車ください",)
    assert said.colour == "amber"


def test_a_hall_does_not_speak_of_boarding() -> None:
    for signal in SIGNALS:
        for direction in DIRECTIONS:
            japanese, english = phrase(DoorSignal(signal), "hall", "both", direction).lines
            assert "乗車" not in japanese
            assert "board" not in english


def test_the_way_out_of_a_bus_does_not_ask_to_board() -> None:
    for signal in ("fallback", "out_of_service"):
        japanese, english = phrase(DoorSignal(signal), "bus", "both", "out").lines
        assert "ご乗車ください" not in japanese
        assert "board" not in english


def test_a_nickname_is_used_only_where_somebody_was_recognised() -> None:
    with_nickname = {
        signal
        for signal in SIGNALS
        if all(
            "さくら" in line for line in phrase(DoorSignal(signal, "さくら"), "bus", "both").lines
        )
    }
    anywhere = {
        signal
        for signal in SIGNALS
        if any(
            "さくら" in line for line in phrase(DoorSignal(signal, "さくら"), "bus", "both").lines
        )
    }
    assert with_nickname == anywhere == {"welcome", "again", "goodbye"}


@pytest.mark.parametrize(("language", "count"), [("ja", 1), ("en", 1), ("both", 2)])
def test_only_the_chosen_languages_are_shown(language: str, count: int) -> None:
    assert len(phrase(DoorSignal("welcome"), "bus", language).lines) == count


def test_an_unknown_signal_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'wellcome'.*welcome"):
        phrase(DoorSignal("wellcome"), "bus", "ja")
