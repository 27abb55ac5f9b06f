"""The upgrade check finds what a careless upgrade would do to events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.upgrade.story import Identity, verdict

EPOCH = "e"


def row(number: int) -> Sequence[Any]:
    return ("boarding", "bus", "p", "bus-7", "front", "boot", number, 1_000 + number, 2_000)


CITY: dict[Identity, Sequence[Any]] = {(EPOCH, n): row(n) for n in range(1, 7)}
JOURNAL: dict[Identity, str] = dict.fromkeys(CITY, "acked") | {
    (EPOCH, 1): "quarantined",
    (EPOCH, 7): "pending",
}
TOLD = {(EPOCH, n) for n in range(1, 8)}
BEFORE = {(EPOCH, n): CITY[EPOCH, n] for n in (1, 2, 3)}


def counted(**changed: Any) -> tuple[int, int, int]:
    parts: dict[str, Any] = {"told": TOLD, "journal": JOURNAL, "city": CITY, "before": BEFORE}
    figures = verdict(**{**parts, **changed})
    assert bool(figures.problems) == bool(figures.lost or figures.doubled or figures.changed)
    return figures.lost, figures.doubled, figures.changed


def test_an_upgrade_without_a_fault_is_clean_though_something_is_still_to_be_sent() -> None:
    assert counted() == (0, 0, 0)


def test_an_event_that_the_city_lacks_is_lost() -> None:
    assert counted(city={key: each for key, each in CITY.items() if key != (EPOCH, 5)}) == (1, 0, 0)


def test_an_event_under_a_second_identity_is_doubled_for_that_and_for_its_moment() -> None:
    assert counted(city={**CITY, ("other", 1): row(4)}) == (0, 2, 0)


def test_an_event_that_says_something_else_than_before_is_changed() -> None:
    assert counted(city={**CITY, (EPOCH, 2): row(99)}) == (0, 0, 1)


def test_an_event_that_no_journal_holds_is_a_problem() -> None:
    told = verdict({*TOLD, (EPOCH, 99)}, JOURNAL, CITY, BEFORE)
    assert "a passenger was told of an event that is in no journal" in told.problems
