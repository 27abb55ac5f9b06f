"""An answer to a question of one tap, on the wire."""

from __future__ import annotations

from typing import Any

from agent.base.events import Moment, SurveyEvent
from agent.protocol.events.kind import Kind, word
from agent.protocol.events.place import read_place


def _read(value: dict[str, Any], moment: Moment) -> SurveyEvent:
    return SurveyEvent(
        read_place(value["place"]),
        moment,
        word(value["question"], "question"),
        word(value["answer"], "answer"),
    )


def _write(event: SurveyEvent) -> dict[str, Any]:
    return {"question": event.question, "answer": event.answer}


SURVEY = Kind((SurveyEvent.kind,), SurveyEvent, ("place", "question", "answer"), _read, _write)
