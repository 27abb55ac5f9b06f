"""The oracle says what is lost and what is there twice, and is not fooled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.events import make_event, stored
from tests.faults.ledger import Ledger, LedgerWriter, at_city, judge

Row = tuple[str, int, list[Any]]


def kept(folder: Path, *numbers: int) -> Ledger:
    """The ledger of a device that appended events of these numbers."""
    lines = LedgerWriter(folder / "ledger")
    for number in numbers:
        lines.trying(stored(number).event)
        lines.returned(stored(number))
    ledger = Ledger()
    ledger.read(folder / "ledger")
    return ledger


def rows_of(ledger: Ledger) -> list[Row]:
    """A city that has exactly what the ledger says."""
    return [(epoch, seq, list(body)) for epoch, seq, body in ledger.returned]


def test_a_city_with_everything_once_is_acquitted(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1, 2, 3)
    verdict = judge(ledger, rows_of(ledger), damaged=False)
    assert (verdict.events, verdict.lost, verdict.duplicated) == (3, [], [])


def test_a_missing_an_altered_and_a_renumbered_event_are_lost(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1, 2, 3, 4)
    (_, second, third, fourth) = rows_of(ledger)
    third[2][9] += 1
    verdict = judge(ledger, [second, third, (fourth[0], 5, fourth[2])], damaged=False)
    assert [what.split(": ")[1] for what in verdict.lost] == ["not there", "altered", "not there"]


def test_an_event_under_two_numbers_is_duplicated(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1)
    ((epoch, _, body),) = rows_of(ledger)
    verdict = judge(ledger, [(epoch, 1, body), (epoch, 2, body)], damaged=False)
    assert (len(verdict.lost), len(verdict.duplicated)) == (0, 1)


def test_what_append_refused_or_nobody_appended_may_not_be_there(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1)
    rows = rows_of(ledger)
    lines = LedgerWriter(tmp_path / "more")
    lines.trying(stored(2).event)
    lines.failed(stored(2).event)
    lines.trying(stored(3).event)
    ledger.read(tmp_path / "more")
    refused, in_flight, unknown = (kept(tmp_path, n) for n in (2, 3, 4))
    assert not judge(ledger, [*rows, rows_of(in_flight)[-1]], damaged=False).duplicated
    assert len(judge(ledger, [*rows, rows_of(refused)[-1]], damaged=False).duplicated) == 1
    assert len(judge(ledger, [*rows, rows_of(unknown)[-1]], damaged=False).duplicated) == 1


def test_a_number_given_out_twice_counts_as_a_loss(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1)
    rows = rows_of(ledger)
    lines = LedgerWriter(tmp_path / "again")
    lines.returned(replace(stored(1), event=make_event(9)))
    ledger.read(tmp_path / "again")
    lines.gone(stored(1).epoch, 5, 9)
    verdict = judge(ledger, rows, damaged=True)
    assert (verdict.events, len(verdict.lost)) == (2, 1)


def test_what_waits_in_the_journal_is_late_and_not_lost(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1, 2, 3)
    lines = LedgerWriter(tmp_path / "late")
    lines.waiting(stored(2).event)
    ledger.read(tmp_path / "late")
    verdict = judge(ledger, rows_of(ledger)[:1], damaged=False)
    assert [what.split()[1] for what in verdict.lost] == ["3:"]


def test_what_a_destroyed_page_cost_must_be_said_by_the_journal(tmp_path: Path) -> None:
    ledger = kept(tmp_path, 1, 2, 3)
    lines = LedgerWriter(tmp_path / "gone")
    lines.gone(stored(1).epoch, 2, 2)
    ledger.read(tmp_path / "gone")
    rows = rows_of(ledger)[:1]
    verdict = judge(ledger, rows, damaged=True)
    assert (verdict.destroyed, len(verdict.lost)) == (1, 1)
    assert len(judge(ledger, rows, damaged=False).lost) == 2


def test_a_line_that_a_kill_cut_short_does_not_count(tmp_path: Path) -> None:
    kept(tmp_path, 1, 2)
    path = tmp_path / "ledger"
    path.write_bytes(path.read_bytes()[:-5])
    ledger = Ledger()
    ledger.read(path)
    assert len(ledger.returned) == 1


def test_a_city_that_never_came_up_has_nothing(tmp_path: Path) -> None:
    assert list(at_city(tmp_path / "city.db", "bus-1")) == []
    (tmp_path / "city.db").touch()
    assert list(at_city(tmp_path / "city.db", "bus-1")) == []
