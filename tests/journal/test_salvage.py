"""The check at boot: damage is found, what can be read is saved, numbers are never used twice."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from agent.base.errors import JournalError
from agent.base.sqlite import sidecars
from agent.base.values import Nack
from agent.journal import BootReport, Journal
from agent.journal.database import PAGE_BYTES
from agent.journal.rescue.pages import lost_commits
from tests.events import enrolment
from tests.journal.events import KEY, ack, event, moment

EVENTS = 400
NOW = moment(1)


def opened(path: Path) -> tuple[Journal, BootReport]:
    return Journal.open_checked(path, KEY, now=NOW)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A closed journal of 400 events: 1 to 150 acknowledged, 160 refused."""
    path = tmp_path / "journal.db"
    with Journal(path, KEY) as journal:
        journal._db.execute("PRAGMA synchronous = OFF")
        for n in range(1, EVENTS + 1):
            journal.append(event(n))
        journal.confirm(ack(journal.epoch, 150, nack=(Nack(160, "no"),)))
    return path


def epoch_of(path: Path) -> str:
    with Journal(path, KEY, read_only=True) as journal:
        return journal.epoch


def overwrite(path: Path, at: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(1).randbytes(count))


def leaf_pages(path: Path) -> list[int]:
    """Page numbers of table leaves that hold many cells: those of the events."""
    content = path.read_bytes()
    pages = range(2, len(content) // PAGE_BYTES + 1)
    return [
        n
        for n in pages
        if content[(n - 1) * PAGE_BYTES] == 0x0D and content[(n - 1) * PAGE_BYTES + 4] > 5
    ]


def test_a_sound_or_a_missing_journal_is_just_opened(sound: Path, tmp_path: Path) -> None:
    journal, report = opened(sound)
    with journal:
        assert report == BootReport()
        assert journal.append(event(0)).seq == EVENTS + 1
    journal, report = opened(tmp_path / "new" / "journal.db")
    with journal:
        assert report == BootReport()
        assert journal.append(event(1)).seq == 1


def test_a_broken_page_costs_its_own_rows_and_no_others(sound: Path) -> None:
    """The rest keeps identity and state, each lost number is in a gap, and the file is kept."""
    old_epoch = epoch_of(sound)
    pages = leaf_pages(sound)
    page = pages[len(pages) // 2]
    overwrite(sound, (page - 1) * PAGE_BYTES, PAGE_BYTES)
    damaged = sound.read_bytes()
    journal, report = opened(sound)
    with journal:
        assert report.damage
        assert report.new_epoch
        assert report.set_aside is not None
        assert report.set_aside.read_bytes() == damaged
        entries = {entry.seq: entry for entry in journal.entries()}
        lost = [n for gap in report.gaps for n in range(gap.first, gap.last + 1)]
        assert 1 <= len(lost) <= 20
        assert sorted([*entries, *lost]) == list(range(1, EVENTS + 1))
        assert report.salvaged == len(entries)
        assert journal.gaps() == list(report.gaps)
        assert {entry.epoch for entry in entries.values()} == {old_epoch}
        assert [entries[n].state for n in (1, 150, 151, 160)] == [
            *("acked", "acked", "pending", "quarantined")
        ]
        assert entries[EVENTS].event == event(EVENTS)


def test_salvaged_events_are_still_delivered_under_their_own_identity(sound: Path) -> None:
    """Old and new epoch side by side; an ack for the old one clears it, also beyond its known end.

    The city may have events whose numbers were lost with the damage.
    """
    old_epoch = epoch_of(sound)
    overwrite(sound, (leaf_pages(sound)[-1] - 1) * PAGE_BYTES, PAGE_BYTES)
    journal, _ = opened(sound)
    with journal:
        new = journal.append(event(9))
        assert new.seq == 1
        assert journal.epochs() == [old_epoch, new.epoch]
        assert journal.epoch == new.epoch != old_epoch
        assert [s.epoch for s in journal.pending(old_epoch, 0, 2)] == [old_epoch] * 2
        assert journal.recent(2)[0] == new
        assert journal.recent(2)[1].epoch == old_epoch
        journal.confirm(ack(old_epoch, EVENTS + 5))
        assert journal.epochs() == [new.epoch]
        assert journal.pending(new.epoch, 0, 10) == [new]


@pytest.mark.parametrize("cut", ["header", "schema", "root", "tail", "start"])
def test_whatever_is_broken_service_goes_on_with_what_can_be_read(sound: Path, cut: str) -> None:
    """Also where SQLite can no longer open the file, and nothing that was read is false."""
    size = sound.stat().st_size
    if cut == "header":
        overwrite(sound, 0, 100)
    elif cut == "schema":
        overwrite(sound, 100, PAGE_BYTES - 100)
    elif cut == "root":  # the interior pages above the rows
        content = sound.read_bytes()
        for at in range(PAGE_BYTES, size, PAGE_BYTES):
            if content[at] in (0x02, 0x05):
                overwrite(sound, at, PAGE_BYTES)
    elif cut == "tail":
        with sound.open("r+b") as file:
            file.truncate(size // 2 + 77)
    else:
        overwrite(sound, 0, size // 2)
    journal, report = opened(sound)
    with journal:
        assert report.damage
        entries = list(journal.entries())
        least = EVENTS // 4 if cut in ("tail", "start") else EVENTS
        assert least <= len(entries) <= EVENTS
        assert all(entry.event == event(entry.seq) for entry in entries)
        assert journal.append(event(5)).epoch not in {entry.epoch for entry in entries}
    journal, report = opened(sound)
    journal.close()
    assert report == BootReport()


def test_rows_still_in_the_log_are_saved_too(sound: Path, tmp_path: Path) -> None:
    """The file's first page is gone and the newest events are only in the -wal beside it."""
    crashed = tmp_path / "crashed" / "journal.db"
    crashed.parent.mkdir()
    with Journal(sound, KEY) as journal:
        for n in range(EVENTS + 1, EVENTS + 21):
            journal.append(event(n))
        journal.confirm(ack(journal.epoch, 200))
        for suffix in ("", "-wal"):
            shutil.copy(f"{sound}{suffix}", f"{crashed}{suffix}")
    overwrite(crashed, 0, PAGE_BYTES)
    overwrite(crashed.with_name("journal.db-wal"), 0, 16)
    journal, report = opened(crashed)
    with journal:
        assert report.damage == "the header of the write-ahead log is broken"
        assert report.salvaged == EVENTS + 20
        assert report.gaps == ()
        states = {entry.seq: entry.state for entry in journal.entries()}
        assert (states[200], states[201], states[EVENTS + 20]) == ("acked", "pending", "pending")
    kept = {file.name for file in crashed.parent.iterdir()}
    assert {"journal.db.damaged-1", "journal.db.damaged-1-wal"} <= kept


def crashed_log(tmp_path: Path) -> Path:
    """A journal as a kill leaves it: ten events, most of them only in its log."""
    with Journal(tmp_path / "live.db", KEY) as journal:
        for n in range(1, 11):
            journal.append(event(n))
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"live.db{suffix}", tmp_path / f"journal.db{suffix}")
    return tmp_path / "journal.db"


def test_a_log_as_a_kill_leaves_it_is_read_to_its_end(tmp_path: Path) -> None:
    path = crashed_log(tmp_path)
    assert lost_commits(path.with_name("journal.db-wal")) == 0
    journal, report = opened(path)
    with journal:
        assert report == BootReport()
        assert journal.append(event(11)).seq == 11


def test_a_torn_last_commit_begins_a_new_epoch(tmp_path: Path) -> None:
    """Its number may have reached the city, so it is not given to another event."""
    path = crashed_log(tmp_path)
    old_epoch = epoch_of(tmp_path / "live.db")
    wal = path.with_name("journal.db-wal")
    overwrite(wal, wal.stat().st_size - 2000, 8)
    journal, report = opened(path)
    with journal:
        assert (report.damage, report.new_epoch) == ("", True)
        assert journal.bounds(old_epoch) == (1, 9)
        assert journal.append(event(11)).seq == 1
        assert journal.epochs() == [old_epoch, journal.epoch]


def test_a_log_that_a_power_cut_left_with_a_torn_header_alone_is_not_damage(
    sound: Path,
) -> None:
    """Its header is synced before anything is written behind it, so nothing was promised yet."""
    log = sound.with_name("journal.db-wal")
    for length in (12, 32):
        log.write_bytes(bytes(length))
        journal, report = Journal.open_checked(sound, KEY, now=moment())
        with journal:
            assert report == BootReport()
            assert journal.stats().last > 0


def test_a_hole_in_the_log_is_damage_and_its_synced_events_are_saved(tmp_path: Path) -> None:
    """SQLite would silently forget every commit behind the first bad frame."""
    path = crashed_log(tmp_path)
    wal = path.with_name("journal.db-wal")
    overwrite(wal, wal.stat().st_size // 2, 8)
    journal, report = opened(path)
    with journal:
        assert "commits in the write-ahead log cannot be read" in report.damage
        assert [entry.seq for entry in journal.entries()] == list(range(1, 11))
        assert all(entry.event == event(entry.seq) for entry in journal.entries())


def test_an_emptied_file_beside_a_log_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    path = crashed_log(tmp_path)
    path.write_bytes(b"")
    journal, report = opened(path)
    with journal:
        assert report.damage == "the file is empty but its log is not"
        assert report.salvaged == 10


def test_a_salvage_cut_short_is_finished_at_the_next_boot(sound: Path) -> None:
    """Whichever of its renames was the last: afterwards all is in place and nothing deleted."""
    overwrite(sound, 0, 100)
    damaged = sound.read_bytes()
    opened(sound)[0].close()
    new, aside = sound.read_bytes(), sound.with_name("journal.db.damaged-1")
    for file_is_still_there in (True, False):
        for file in sound.parent.iterdir():
            file.unlink()
        sound.with_name("journal.db.salvaged").write_bytes(new)
        (sound if file_is_still_there else aside).write_bytes(damaged)
        journal, report = opened(sound)
        with journal:
            assert (report.salvaged, report.set_aside) == (EVENTS, aside)
            assert journal.stats().last == 0
        assert aside.read_bytes() == damaged


def test_a_second_damage_is_kept_beside_the_first(sound: Path) -> None:
    for number in (1, 2):
        overwrite(sound, 0, 100)
        journal, report = opened(sound)
        journal.close()
        assert report.set_aside == sound.with_name(f"journal.db.damaged-{number}")
        assert report.salvaged == EVENTS


def test_a_damaged_journal_under_another_key_is_left_alone(sound: Path) -> None:
    overwrite(sound, (leaf_pages(sound)[-1] - 1) * PAGE_BYTES, PAGE_BYTES)
    before = sound.read_bytes()
    with pytest.raises(JournalError, match=r"damaged .* written under another key"):
        Journal.open_checked(sound, b"x" * 32, now=NOW)
    assert sound.read_bytes() == before


def test_recorded_gaps_and_acknowledged_holes_are_not_reported_again(tmp_path: Path) -> None:
    """What was pruned after the city's ack is no loss; what the quota took is known already."""
    path = tmp_path / "journal.db"
    with Journal(path, KEY, max_bytes=100_000, keep_days=0.0) as journal:
        journal._db.execute("PRAGMA synchronous = OFF")
        for n in range(1, EVENTS + 1):
            journal.append(event(n))
        (quota,) = journal.gaps()
        journal.confirm(ack(journal.epoch, 350))
        journal.prune(moment(2))
    overwrite(path, 0, 100)
    journal, report = opened(path)
    with journal:
        assert report.gaps == ()
        assert journal.gaps() == [quota]
        assert [entry.seq for entry in journal.entries()] == list(range(351, EVENTS + 1))


def test_a_file_of_something_else_is_set_aside_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"minutes of the residents' meeting\n" * 300)
    journal, report = opened(path)
    with journal:
        assert (report.damage, report.salvaged) == ("file is not a database", 0)
    assert report.set_aside is not None
    assert report.set_aside.read_bytes().startswith(b"minutes")


def test_damage_met_in_service_is_told_from_other_trouble(sound: Path) -> None:
    for page in leaf_pages(sound):
        overwrite(sound, (page - 1) * PAGE_BYTES, PAGE_BYTES)
    with Journal(sound, KEY) as journal, pytest.raises(JournalError, match="restart the agent"):
        list(journal.entries())
    with pytest.raises(JournalError, match=r"check that .* exists"):
        Journal.open_checked(sound.parent, KEY, now=NOW)


def test_the_log_is_checked_as_sqlite_checks_it(tmp_path: Path) -> None:
    """Where a log is torn at a random byte, both agree on whether a commit was lost."""
    path = crashed_log(tmp_path)
    wal = path.with_name("journal.db-wal")
    whole = wal.read_bytes()
    chance = random.Random(7)
    for _ in range(25):
        torn = bytearray(whole)
        at = chance.randrange(32, len(whole))
        torn[at] ^= 0x55
        copy = tmp_path / "copy.db"
        shutil.copy(path, copy)
        copy.with_name("copy.db-wal").write_bytes(torn)
        lost = lost_commits(copy.with_name("copy.db-wal"))
        db = sqlite3.connect(copy)
        has_table = db.execute("SELECT count(*) FROM sqlite_master WHERE name='event'").fetchone()
        seen = db.execute("SELECT count(*) FROM event").fetchone()[0] if has_table[0] else 0
        db.close()
        # The frame's salts decide whether it is of this log at all: hit there, the rest is unseen.
        hit_salts = 8 <= (at - 32) % (24 + PAGE_BYTES) < 16
        assert hit_salts or lost >= 10 - seen > 0, at


def test_an_enrolment_that_spills_over_pages_is_saved_from_file_and_log(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    enrolled = [enrolment(n).event for n in (1, 2, 3)]
    with Journal(path, KEY) as journal:
        for each in enrolled[:2]:
            journal.append(each)
    with Journal(path, KEY) as journal:
        journal.append(enrolled[2])
        for file in (path, *sidecars(path)):  # as a power cut leaves them: the third is in the log
            if file.exists():
                shutil.copy(file, tmp_path / f"cut-{file.name}")
    cut = tmp_path / "cut-journal.db"
    overwrite(cut, PAGE_BYTES, 200)
    journal, report = opened(cut)
    with journal:
        assert report.salvaged == 3
        epoch = journal.epochs()[0]
        assert [stored.event for stored in journal.pending(epoch, 0, 10)] == enrolled


def test_a_broken_page_of_an_enrolment_costs_that_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal(path, KEY) as journal:
        for n in (1, 2, 3):
            journal.append(enrolment(n).event)
    with sqlite3.connect(path) as db:
        sealed = db.execute("SELECT sealed FROM event WHERE seq = 2").fetchone()[0]
    db.close()
    overwrite(path, path.read_bytes().index(sealed[-100:]), 50)
    overwrite(path, 100, 200)
    journal, report = opened(path)
    with journal:
        assert report.salvaged == 2
        assert [(gap.first, gap.last) for gap in journal.gaps()] == [(2, 2)]
