"""What may leave the journal and when: time that cannot be faked, room with a record of losses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.base.values import Nack
from agent.journal import Journal
from agent.journal.ranges import missing, to_ranges
from tests.journal.events import DAY_MS, KEY, ack, event, moment


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Four events, the first two acknowledged; kept seven days."""
    with Journal(tmp_path / "journal.db", KEY, keep_days=7.0) as journal:
        for n in range(1, 5):
            journal.append(event(n))
        journal.confirm(ack(journal.epoch, 2))
        yield journal


def test_acknowledged_events_leave_after_their_days_and_others_never(journal: Journal) -> None:
    assert journal.prune(moment(0)) == 0
    assert journal.prune(moment(7 * DAY_MS - 1)) == 0
    assert journal.prune(moment(7 * DAY_MS)) == 2
    assert journal.bounds(journal.epoch) == (3, 4)
    assert journal.prune(moment(700 * DAY_MS)) == 0
    assert journal.gaps() == []


def test_a_stepping_wall_clock_deletes_nothing_early_and_keeps_nothing_long(
    journal: Journal,
) -> None:
    """1970, ten years ahead and back: only powered-on time counts."""
    walls = (0, 1_700_000_000_000, 2_100_000_000_000, 0, 4_000_000_000_000, 1_600_000_000_000)
    for day, wall_ms in enumerate(walls):
        assert journal.prune(moment(day * DAY_MS, wall_ms=wall_ms)) == 0
    assert journal.prune(moment(7 * DAY_MS, wall_ms=0)) == 2


def test_time_adds_up_over_boots(journal: Journal) -> None:
    """Each boot's clock begins at 0; what passed while it was off is not counted."""
    journal.prune(moment(50 * DAY_MS, boot="a"))
    journal.prune(moment(53 * DAY_MS, boot="a"))
    assert journal.prune(moment(3 * DAY_MS, boot="b")) == 0
    assert journal.prune(moment(4 * DAY_MS - 1, boot="b")) == 0
    assert journal.prune(moment(4 * DAY_MS, boot="b")) == 2


def test_a_replayed_event_is_kept_its_days_from_its_new_ack(journal: Journal) -> None:
    journal.prune(moment(0))
    journal.replay(journal.epoch, 1, 1)
    assert journal.prune(moment(8 * DAY_MS)) == 1
    journal.confirm(ack(journal.epoch, 1))
    assert journal.prune(moment(9 * DAY_MS)) == 0
    assert journal.prune(moment(16 * DAY_MS)) == 1


def test_an_emptied_epoch_keeps_its_count(journal: Journal) -> None:
    journal.confirm(ack(journal.epoch, 4))
    journal.prune(moment(0))
    journal.prune(moment(8 * DAY_MS))
    assert journal.bounds(journal.epoch) == (5, 4)
    assert journal.append(event(5)).seq == 5


def fill(path: Path, max_bytes: int, count: int) -> Journal:
    journal = Journal(path, KEY, max_bytes=max_bytes)
    journal._db.execute("PRAGMA synchronous = OFF")  # these check room, not durability
    for n in range(1, count + 1):
        journal.append(event(n))
    return journal


def test_over_the_quota_acknowledged_events_go_first_and_are_no_loss(tmp_path: Path) -> None:
    """New events get their room, the file stays within the quota, and no gap is recorded."""
    with fill(tmp_path / "journal.db", 450_000, 900) as journal:
        journal.confirm(ack(journal.epoch, 0, have=((300, 900),)))
        for n in range(901, 1400):
            journal.append(event(n))
        kept = [entry.seq for entry in journal.entries()]
        assert kept[:299] == list(range(1, 300))
        assert kept[-499:] == list(range(901, 1400))
        assert len(kept) < 1399
        assert journal.gaps() == []
        assert (tmp_path / "journal.db").stat().st_size < 550_000


def test_every_loss_to_the_quota_is_one_growing_gap(tmp_path: Path) -> None:
    """With nothing acknowledged the oldest go, and each number is either here or in a gap."""
    with fill(tmp_path / "journal.db", 300_000, 2000) as journal:
        kept = [entry.seq for entry in journal.entries()]
        (gap,) = journal.gaps()
        assert (gap.epoch, gap.first, gap.reason) == (journal.epoch, 1, "quota")
        assert kept == list(range(gap.last + 1, 2001))
        assert gap.last > 500
        assert journal.stats().lost == gap.last


def test_quarantined_events_go_before_pending_ones(tmp_path: Path) -> None:
    with fill(tmp_path / "journal.db", 2**30, 800) as journal:
        refused = tuple(Nack(seq, "no") for seq in range(500, 801))
        journal.confirm(ack(journal.epoch, 0, nack=refused))
        used = journal._db.used_bytes
    with Journal(tmp_path / "journal.db", KEY, max_bytes=used - 40_000) as journal:
        journal.prune(moment())
        (gap,) = journal.gaps()
        assert (gap.first, gap.reason) == (500, "quota, quarantined")
        assert journal.stats().pending == 499


def test_ranges_and_what_they_leave_open() -> None:
    assert to_ranges([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
    assert missing(1, 10, [(2, 3), (7, 7)]) == [(1, 1), (4, 6), (8, 10)]
    assert missing(1, 10, [(1, 10)]) == []
    assert missing(4, 10, [(1, 5), (5, 6), (9, 40)]) == [(7, 8)]
    assert missing(5, 4, []) == []
