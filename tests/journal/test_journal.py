"""The journal's promises in ordinary use: durable, gapless, in order, readable beside."""

from __future__ import annotations

import base64
import sqlite3
import stat
from io import StringIO
from pathlib import Path

import pytest
from sqlite_utils import Database as Utilities

from agent.base.errors import JournalError
from agent.base.events import StoredEvent
from agent.journal import Journal
from agent.journal.database import JOURNAL
from agent.journal.export import write_csv, write_json_lines
from tests.events import make_enrolment
from tests.journal.events import KEY, ack, event, moment


def test_events_come_back_as_they_were_with_gapless_numbers(tmp_path: Path) -> None:
    """What is appended is read back equal, numbered from 1, also after opening again."""
    with Journal(tmp_path / "journal.db", KEY) as journal:
        assert journal.bounds(journal.epoch) == (1, 0)
        stored = [journal.append(event(n)) for n in range(1, 6)]
        assert [s.seq for s in stored] == [1, 2, 3, 4, 5]
    with Journal(tmp_path / "journal.db", KEY) as journal:
        assert journal.pending(journal.epoch, 0, 100) == stored
        assert journal.pending(journal.epoch, 2, 2) == stored[2:4]
        assert journal.recent(2) == [stored[4], stored[3]]
        assert journal.bounds(journal.epoch) == (1, 5)
        assert journal.append(event(6)) == StoredEvent(stored[0].epoch, 6, event(6))


def test_every_database_has_its_own_random_epoch(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.db", KEY) as a, Journal(tmp_path / "b.db", KEY) as b:
        assert a.epoch != b.epoch
        assert len(bytes.fromhex(a.epoch)) == 16
        assert a.epochs() == [a.epoch]


def test_each_commit_is_synced_and_deleted_content_overwritten(tmp_path: Path) -> None:
    """WAL with synchronous=FULL on the journal's own connection; the file is for its user only."""
    with Journal(tmp_path / "journal.db", KEY) as journal:
        assert journal._db.value("PRAGMA journal_mode") == "wal"
        assert journal._db.value("PRAGMA synchronous") == 2
        assert journal._db.value("PRAGMA secure_delete") == 1
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_another_key_is_refused_and_named(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db", KEY) as journal:
        journal.append(event())
    for read_only in (False, True):
        with pytest.raises(JournalError, match=r"journal\.db was written under another key"):
            Journal(tmp_path / "journal.db", b"x" * 32, read_only=read_only)
    with pytest.raises(JournalError, match="5 bytes instead of 32"):
        Journal(tmp_path / "journal.db", b"short")


def test_a_reader_sees_what_was_committed_while_the_writer_goes_on(tmp_path: Path) -> None:
    """A second connection, half-way through its rows, neither blocks nor loses anything."""
    with Journal(tmp_path / "journal.db", KEY) as writer:
        for n in range(1, 601):
            writer.append(event(n))
        with Journal(tmp_path / "journal.db", KEY, read_only=True) as reader:
            entries = reader.entries()
            seen = [next(entries).seq]
            writer.append(event(601))
            seen += [entry.seq for entry in entries]
            assert seen == list(range(1, 602))
            with pytest.raises(JournalError, match="readonly"):
                reader.append(event())


def test_reading_needs_a_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal at"):
        Journal(tmp_path / "journal.db", KEY, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_is_kept_waiting_says_so(tmp_path: Path) -> None:
    """Nothing is half done when another program holds the file; afterwards it goes on."""
    with Journal(tmp_path / "journal.db", KEY) as journal:
        journal._db.execute("PRAGMA busy_timeout = 50")
        other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="another program has held it"):
            journal.append(event(1))
        other.execute("ROLLBACK")
        other.close()
        assert journal.append(event(2)).seq == 1


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=r"check that .*file exists"):
        Journal(tmp_path / "file" / "journal.db", KEY)


def test_migrations_are_recorded_with_their_change_and_newer_files_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path, KEY).close()
    db = Utilities(path)
    assert [row["name"] for row in db.table("_sqlite_migrations").rows] == list(JOURNAL.steps)
    db.table("_sqlite_migrations").insert(
        {"migration_set": "journal", "name": "of_tomorrow", "applied_at": "later"}
    )
    db.close()
    with pytest.raises(JournalError, match=r"newer kaopass \(it has of_tomorrow\)"):
        Journal(path, KEY)


def test_times_of_an_unknown_clock_are_corrected_once_it_is_known(tmp_path: Path) -> None:
    """Same boot only, added beside what the clock said; known clocks are left alone."""
    with Journal(tmp_path / "journal.db", KEY) as journal:
        journal.append(event(1, moment(1000, wall_ms=0, clock="unset")))
        journal.append(event(2, moment(2000, wall_ms=5, clock="saved")))
        journal.append(event(3, moment(3000, wall_ms=9, clock="gnss")))
        journal.append(event(4, moment(900, wall_ms=0, clock="unset", boot="boot-before")))
        assert journal.correct(moment(9000, wall_ms=10**12, clock="saved")) == 0
        assert journal.correct(moment(10_000, wall_ms=10**12)) == 2
        assert journal.correct(moment(10_000, wall_ms=10**12 + 77)) == 0
        corrected = {s.seq: s.corrected_ms for s in journal.pending(journal.epoch, 0, 10)}
        assert corrected == {1: 10**12 - 9000, 2: 10**12 - 8000, 3: None, 4: None}
        assert journal.pending(journal.epoch, 0, 1)[0].event.moment.wall_ms == 0


def test_clocks_that_step_change_neither_numbers_nor_order(tmp_path: Path) -> None:
    """1970, ten years ahead, and back again in the middle of a run."""
    walls = (0, 1_700_000_000_000, 2_015_000_000_000, 1_600_000_000_000, 1)
    with Journal(tmp_path / "journal.db", KEY) as journal:
        for n, wall_ms in enumerate(walls, 1):
            journal.append(event(n, moment(n, wall_ms=wall_ms)))
        found = journal.pending(journal.epoch, 0, 10)
        assert [(s.seq, s.event.moment.wall_ms) for s in found] == list(enumerate(walls, 1))


def test_stats_count_every_state(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db", KEY) as journal:
        for n in range(1, 5):
            journal.append(event(n))
        journal.confirm(ack(journal.epoch, 1))
        stats = journal.stats()
        assert (stats.first, stats.last, stats.pending, stats.acked) == (1, 4, 3, 1)
        assert (stats.quarantined, stats.gaps, stats.lost) == (0, 0, 0)
        files = [file.stat().st_size for file in tmp_path.iterdir()]
        assert stats.disk_bytes == sum(files)


def test_an_enrolment_comes_back_with_what_is_sealed_in_it_and_lists_do_not_show_it(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path / "journal.db", KEY) as journal:
        enrolled = make_enrolment(1)
        assert journal.append(enrolled).event == enrolled
        assert journal.pending(journal.epoch, 0, 9)[0].event == enrolled
        out = StringIO()
        write_json_lines(journal.entries(), out, show_persons=True)
        write_csv(journal.entries(), out, show_persons=True)
    assert "enrolment" in out.getvalue()
    assert "sealed" not in out.getvalue()
    assert base64.b64encode(enrolled.sealed).decode()[:20] not in out.getvalue()
