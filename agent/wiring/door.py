"""How the door of these settings behaves: its conduct, and its rules of passages."""

from __future__ import annotations

from agent.base.events import Place
from agent.door.faces import Faces
from agent.door.pipeline import Conduct
from agent.journey.boarding import BoardingRules
from agent.keys.pseudonym import Pseudonyms
from agent.settings.model import Settings


def conduct(settings: Settings) -> Conduct:
    """What the loop needs of *settings*."""
    return Conduct(
        timeout_ms=round(settings.decision.timeout_seconds * 1000),
        show_ms=round(settings.feedback.show_seconds * 1000),
        on_journal_failure=settings.journal.on_failure,
        goodbye=settings.place.direction == "out",
    )


def boarding_rules(settings: Settings, faces: Faces) -> BoardingRules:
    """Rules for the place of *settings*, until an input says that it is another."""
    place = settings.place
    return BoardingRules(
        Pseudonyms(faces.pseudonym_key, faces.linked),
        Place(place.kind, place.name, place.door),
        direction=place.direction,
        repeat_ms=round(place.repeat_seconds * 1000),
    )
