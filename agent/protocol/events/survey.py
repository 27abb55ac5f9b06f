"""An answer to a question of one tap, on the wire."""

from __future__ import annotations

from agent.base.events import SurveyEvent
from agent.protocol.events.kind import PLACE, WORD, Kind

SURVEY = Kind(SurveyEvent, {"place": PLACE, "question": WORD, "answer": WORD})
