"""While a town changes its model pack: two packs decide side by side, and one answer comes out.

Whoever has templates of the new pack is compared by it alone, everybody else by the former one, so
each resident is in exactly one of two galleries and scores of different packs never meet.
"""

from __future__ import annotations

from dataclasses import replace

from agent.base.values import Decision, Outcome
from agent.recognition.decision import AMBIGUOUS, CONTRADICTED


def settled(new: Decision, former: Decision) -> Decision:
    """What is said of a track on which both packs have decided.

    A match by one of them is a match: the other has not this person to compare with. Two matches
    are two people, of whom neither is certain, and whoever takes a match back is believed.
    """
    for decision in (new, former):
        if decision.reason == CONTRADICTED:
            return decision
    if Outcome.MATCH is new.outcome is former.outcome:
        return replace(new, outcome=Outcome.UNKNOWN, person=None, reason=AMBIGUOUS)
    return former if former.outcome is Outcome.MATCH else new


def both(new: list[Decision], former: list[Decision]) -> list[Decision]:
    """The decisions of both packs on one frame, one a track."""
    other = {decision.track: decision for decision in former}
    found = [settled(d, other.pop(d.track)) if d.track in other else d for d in new]
    return [*found, *other.values()]
