"""The words for every signal: plain, polite Japanese for a passenger of eighty, and English.

Each signal also has an icon and a colour of its own, so that nobody depends on one sense alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.base.errors import UsageError
from agent.base.values import DoorSignal

COLOURS = ("green", "amber", "red", "none")


@dataclass(frozen=True, slots=True)
class Phrase:
    """What is shown for one signal. ``lines`` has one text a language, Japanese first.

    ``colour`` is "green", "amber", "red" or "none", the same as the lamp's.
    """

    icon: str
    colour: str
    lines: tuple[str, ...]


# signal -> (icon, colour); each icon has another outline, for those who see no colours
_LOOK = {
    "ready": ("◎", "none"),
    "welcome": ("○", "green"),
    "again": ("◇", "green"),
    "goodbye": ("→", "green"),
    "fallback": ("△", "amber"),
    "out_of_service": ("✕", "red"),
}

# kind of place -> signal -> (Japanese, English); a nickname is put in front where there is one
_WORDS = {
    "bus": {
        "ready": (
            "顔認証を行っています。カメラをご覧ください",
            "Face pass is on. Please look here",
        ),
        "welcome": ("ご乗車ありがとうございます", "Welcome aboard"),
        "again": ("ご乗車は受付済みです", "You are already on board"),
        "goodbye": ("ご乗車ありがとうございました", "Thank you for riding"),
        "fallback": ("いつもの方法でご乗車ください", "Please board as usual"),
        "out_of_service": (
            "顔認証はお休みしています。いつもの方法でご乗車ください",
            "Face pass is not available. Please board as usual",
        ),
    },
    "hall": {
        "ready": (
            "顔認証を行っています。カメラをご覧ください",
            "Face pass is on. Please look here",
        ),
        "welcome": ("ようこそお越しくださいました", "Welcome"),
        "again": ("受付はお済みです", "You are already checked in"),
        "goodbye": ("またお越しください", "See you again"),
        "fallback": ("いつもの方法で受付をお願いします", "Please check in as usual"),
        "out_of_service": (
            "顔認証はお休みしています。いつもの方法で受付をお願いします",
            "Face pass is not available. Please check in as usual",
        ),
    },
}
# On the way out a bus has other words for "please do it as usual".
_WAY_OUT = {
    "bus": {
        "again": ("お降りの受付はお済みです", "You are already checked out"),
        "fallback": ("いつもの方法でお降りください", "Please leave as usual"),
        "out_of_service": (
            "顔認証はお休みしています。いつもの方法でお降りください",
            "Face pass is not available. Please leave as usual",
        ),
    },
    "hall": {
        "again": ("退館の受付はお済みです", "You are already checked out"),
        "fallback": ("いつもの方法でお帰りください", "Please leave as usual"),
        "out_of_service": (
            "顔認証はお休みしています。いつもの方法でお帰りください",
            "Face pass is not available. Please leave as usual",
        ),
    },
}
# Only these speak to somebody who was recognised.
_PERSONAL = frozenset({"welcome", "again", "goodbye"})

SIGNALS = tuple(_LOOK)


def phrase(signal: DoorSignal, place: str, language: str, direction: str = "in") -> Phrase:
    """The words, icon and colour for *signal*.

    *place* is "bus" or "hall", *language* "ja", "en" or "both", *direction* "in" or "out".
    A nickname appears only where somebody was recognised. Raises UsageError for a signal there
    are no words for.
    """
    look = _LOOK.get(signal.name)
    if look is None:
        known = ", ".join(SIGNALS)
        raise UsageError(f"there is no signal {signal.name!r}; known are {known}")
    japanese, english = _WORDS[place][signal.name]
    if direction == "out":
        japanese, english = _WAY_OUT[place].get(signal.name, (japanese, english))
    if signal.nickname and signal.name in _PERSONAL:
        japanese = f"{signal.nickname} 様、{japanese}"
        english = f"{signal.nickname}: {english}"
    lines = {"ja": (japanese,), "en": (english,), "both": (japanese, english)}[language]
    return Phrase(*look, lines)
