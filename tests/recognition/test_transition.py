"""Of two packs side by side one answer comes out, and never somebody of whom one pack is unsure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.base.values import Decision, Outcome
from agent.recognition.decision import AMBIGUOUS, BELOW_THRESHOLD, CONTRADICTED, RECOGNISED
from agent.recognition.transition import both, settled

BOX = (0.0, 0.0, 50.0, 50.0)


def decision(person: str | None, reason: str = "", *, track: int = 1) -> Decision:
    outcome = Outcome.UNKNOWN if person is None else Outcome.MATCH
    why = reason or (BELOW_THRESHOLD if person is None else RECOGNISED)
    return Decision(track, 7, 70, 70, BOX, outcome, person, 0.5, why)


@pytest.mark.parametrize(
    ("new", "former", "person", "reason"),
    [
        (decision("ann"), decision(None), "ann", RECOGNISED),
        (decision(None), decision("ben"), "ben", RECOGNISED),
        (decision(None), decision(None), None, BELOW_THRESHOLD),
        (decision("ann"), decision("ben"), None, AMBIGUOUS),
        (decision(None, CONTRADICTED), decision("ben"), None, CONTRADICTED),
        (decision("ann"), decision(None, CONTRADICTED), None, CONTRADICTED),
        (decision(None, AMBIGUOUS), decision(None), None, AMBIGUOUS),
    ],
    ids=["new", "former", "nobody", "two people", "new takes back", "former takes back", "unsure"],
)
def test_one_answer_comes_of_two(
    new: Decision, former: Decision, person: str | None, reason: str
) -> None:
    said = settled(new, former)
    assert (said.person, said.reason) == (person, reason)
    assert (said.outcome is Outcome.MATCH) == (person is not None)


def test_decisions_meet_by_track_and_none_is_lost() -> None:
    new = [decision("ann", track=1), decision(None, track=2)]
    former = [decision("ben", track=2), decision("cas", track=3)]
    assert both(new, former) == [new[0], former[0], former[1]]
    assert both(new, []) == new
    assert both([], former) == former
    assert both([replace(new[0], track=3)], [former[1]])[0].reason == AMBIGUOUS
