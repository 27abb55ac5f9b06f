"""The journal answers for every number the city may lack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.base.errors import MessageError
from agent.base.events import Moment
from agent.base.values import Ack, Nack
from agent.journal import Journal
from agent.journal.database import Database
from tests.events import OTHER_EPOCH, make_event

KEY = bytes(range(32))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.db", KEY) as opened:
        yield opened


def fill(journal: Journal, count: int) -> None:
    for number in range(1, count + 1):
        journal.append(make_event(number))


def test_absent_are_quarantined_and_deleted_numbers_and_nothing_else(
    journal: Journal, tmp_path: Path
) -> None:
    fill(journal, 9)
    journal.confirm(Ack(journal.epoch, 5, (), (Nack(3, "bad_kind"), Nack(4, "bad_kind")), 1))
    database = Database(tmp_path / "journal.db")
    with database.write():
        database.execute("DELETE FROM event WHERE seq IN (1, 2, 7)")
    database.close()
    assert journal.absent(journal.epoch, 1, 500) == [
        (1, 2, "gone"),
        (3, 4, "bad_kind"),
        (7, 7, "gone"),
    ]
    assert journal.absent(journal.epoch, 5, 6) == []


def test_what_was_quarantined_becomes_pending_again_only_in_its_range(journal: Journal) -> None:
    fill(journal, 4)
    journal.confirm(Ack(journal.epoch, 4, (), (Nack(2, "bad_kind"), Nack(4, "bad_kind")), 1))
    assert journal.requeue(journal.epoch, 1, 3) == 1
    assert [stored.seq for stored in journal.pending(journal.epoch, 0, 10)] == [2]
    assert journal.stats().quarantined == 1


def test_an_epoch_the_journal_does_not_have_is_refused(journal: Journal) -> None:
    for act in (journal.replay, journal.requeue, journal.absent):
        with pytest.raises(MessageError, match="does not have"):
            act(OTHER_EPOCH, 1, 5)


def test_the_offset_of_a_boot_is_kept_from_the_first_time_it_was_found(journal: Journal) -> None:
    event = make_event(1)
    unknown = replace(event, moment=Moment("boot-a", 5_000, 77, "unset", -1))
    journal.append(unknown)
    assert journal.offsets() == []
    journal.correct(Moment("boot-a", 9_000, 1_790_000_009_000, "ntp", 20))
    journal.append(unknown)
    journal.correct(Moment("boot-a", 10_000, 1_790_000_099_999, "ntp", 20))
    assert journal.offsets() == [("boot-a", 1_790_000_000_000)]
    assert {entry.corrected_ms for entry in journal.entries()} == {1_790_000_005_000}


def test_a_boot_that_knew_the_time_all_along_leaves_no_offset(journal: Journal) -> None:
    fill(journal, 2)
    boot = make_event(1).moment.boot
    journal.correct(Moment(boot, 9_000, 1_790_000_009_000, "ntp", 20))
    assert journal.offsets() == []
