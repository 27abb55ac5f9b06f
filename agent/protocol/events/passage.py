"""A passage on the wire: ``boarding``, ``alighting``, ``check_in`` and ``check_out``."""

from __future__ import annotations

from agent.base.events import Passage, PassageEvent
from agent.protocol.events.kind import PLACE, RESIDENT, Kind

PASSAGE = Kind(PassageEvent, {**RESIDENT, "place": PLACE}, one_of=("passage", Passage))
