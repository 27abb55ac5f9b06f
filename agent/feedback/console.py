"""A display on a terminal: one line a signal for people, or one JSON object for programs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TextIO

from agent.base.errors import FeedbackError
from agent.base.events import StoredEvent
from agent.base.values import DoorSignal
from agent.feedback.words import phrase

_COLOUR_CODES = {"green": "\x1b[1;32m", "amber": "\x1b[1;33m", "red": "\x1b[1;31m"}
_PLAIN = "\x1b[0m"


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Console:
    """Writes every signal to *stream* and flushes it, so that a pipe sees it at once.

    *place* ("bus" or "hall"), *direction* ("in" or "out") and *language* ("ja", "en", "both")
    choose the words; nicknames are shown on a terminal only, never in a log. Colours are used on
    a terminal unless NO_COLOR is set (no-color.org).
    With *json_lines* each signal is ``{"signal", "seq", "epoch", "kind", "mono_ms"}``: no words,
    no nickname, nobody's pseudonym; the event's fields are null where nothing was journalled, and
    ``mono_ms`` is CLOCK_MONOTONIC at the moment of showing.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        place: str = "bus",
        direction: str = "in",
        language: str = "both",
        json_lines: bool = False,
        mono_ms: Callable[[], int] = _mono_ms,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._stream = stream
        self._place = place
        self._direction = direction
        self._language = language
        self._json_lines = json_lines
        self._mono_ms = mono_ms
        self._watched = stream.isatty()
        self._coloured = self._watched and not environ.get("NO_COLOR")

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None:
        """Print *signal*. Raises FeedbackError when nobody reads the stream any more."""
        line = self._json(signal, stored) if self._json_lines else self._words(signal)
        encoding = self._stream.encoding or "utf-8"
        # A terminal without Japanese shows '?', which is better than a door that stops.
        line = line.encode(encoding, "replace").decode(encoding)
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            raise FeedbackError(
                f"console: cannot write ({error}); is what reads this output still there?"
            ) from error

    def close(self) -> None:
        """Nothing to release: the stream belongs to whoever opened it."""

    def _words(self, signal: DoorSignal) -> str:
        # Without a terminal this ends in the log, where nobody's nickname belongs.
        shown = signal if self._watched else replace(signal, nickname="")
        said = phrase(shown, self._place, self._language, self._direction)
        text = f"{said.icon} " + " / ".join(said.lines)
        code = _COLOUR_CODES.get(said.colour, "") if self._coloured else ""
        return f"{code}{text}{_PLAIN}" if code else text

    def _json(self, signal: DoorSignal, stored: StoredEvent | None) -> str:
        return json.dumps(
            {
                "signal": signal.name,
                "seq": stored.seq if stored else None,
                "epoch": stored.epoch if stored else None,
                "kind": stored.event.kind if stored else None,
                "mono_ms": self._mono_ms(),
            }
        )
