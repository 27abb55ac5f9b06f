"""Kills and full disks: what append returned is there afterwards, gapless, and service resumes."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.base.errors import JournalError
from agent.base.events import person_of
from agent.journal import Journal
from tests.journal.events import KEY, ack, event, moment

KILLS = 12
# The ledger is what this prints: a number and its passenger, after append has returned.
APPENDER = """
import sys
from pathlib import Path
from agent.journal import Journal
from tests.journal.events import KEY, event, moment

journal, report = Journal.open_checked(Path(sys.argv[1]), KEY, now=moment())
passenger = int(sys.argv[2])
print("ready", report.damage, report.new_epoch, flush=True)
while True:
    stored = journal.append(event(passenger))
    print(stored.epoch, stored.seq, passenger, flush=True)
    passenger += 1
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_nothing_that_append_returned(tmp_path: Path) -> None:
    """A dozen SIGKILLs: every line of the ledger is in the journal, which has no hole."""
    path = tmp_path / "journal.db"
    chance = random.Random(20)
    ledger: list[tuple[str, int, int]] = []
    for _ in range(KILLS):
        first = 1_000_000 + len(ledger) * 1000
        with subprocess.Popen(
            [sys.executable, "-c", APPENDER, str(path), str(first)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready  False\n"
            time.sleep(chance.uniform(0.0, 0.08))
            child.send_signal(signal.SIGKILL)
            for line in child.stdout:
                if line.endswith("\n"):
                    epoch, seq, passenger = line.split()
                    ledger.append((epoch, int(seq), int(passenger)))
    with Journal(path, KEY) as journal:
        stored = journal.pending(journal.epoch, 0, 10**6)
        there = {(s.epoch, s.seq): int(person_of(s.event), 16) for s in stored}
        assert [s.seq for s in stored] == list(range(1, len(stored) + 1))
        assert len(ledger) > KILLS
        assert all(there.get((epoch, seq)) == who for epoch, seq, who in ledger)
        # At most the one append in flight at each kill was stored without being reported.
        assert len(stored) - len(ledger) <= KILLS


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A 6 MB file system of its own; mounting needs root, so elsewhere these tests are skipped."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, but_bytes: int = 0) -> None:
    """Fill the disk, except for *but_bytes*."""
    with (place / "ballast").open("wb", buffering=0) as file:
        while shutil.disk_usage(place).free > but_bytes:
            file.write(bytes(4096))


def test_a_full_disk_is_named_and_recording_resumes_when_there_is_room(small_disk: Path) -> None:
    """No number is skipped or half stored, and what was there stays."""
    with Journal(small_disk / "journal.db", KEY) as journal:
        for n in range(1, 51):
            journal.append(event(n))
        fill(small_disk)
        count = 50
        message = ""
        while not message:
            try:
                journal.append(event(count + 1))
                count += 1
            except JournalError as error:
                message = str(error)
        assert re.search(rf"{small_disk}.*no room left.*free some space", message)
        for _ in range(3):
            with pytest.raises(JournalError):
                journal.append(event(0))
        (small_disk / "ballast").unlink()
        assert journal.append(event(count + 1)).seq == count + 1
        persons = [int(person_of(s.event), 16) for s in journal.pending(journal.epoch, 0, 10**6)]
        assert persons == list(range(1, count + 2))
        assert journal._db.rows("PRAGMA integrity_check") == [("ok",)]


def test_on_a_nearly_full_disk_acknowledged_events_make_room(small_disk: Path) -> None:
    """Oldest first and without a gap, so that recording goes on where it would have stopped."""
    path = small_disk / "journal.db"
    with Journal(path, KEY) as journal:
        for n in range(1, 1501):
            journal.append(event(n))
        journal.confirm(ack(journal.epoch, 0, have=((1, 500), (600, 1500))))
        fill(small_disk, but_bytes=500_000)
        for n in range(1501, 6001):
            journal.append(event(n))
            if n % 100 == 0:
                journal.confirm(ack(journal.epoch, 0, have=((1501, n),)))
        kept = [entry.seq for entry in journal.entries()]
        assert kept[:99] == list(range(501, 600))
        assert kept[-100:] == list(range(5901, 6001))
        assert journal.gaps() == []


def test_starting_on_a_full_disk_says_so_and_harms_nothing(small_disk: Path) -> None:
    """SQLite itself only speaks of an I/O error; a full disk is never taken for damage."""
    path = small_disk / "journal.db"
    with Journal(path, KEY) as journal:
        journal.append(event(1))
    fill(small_disk)
    with pytest.raises(JournalError, match=rf"no room left .* free some space in {small_disk}"):
        Journal.open_checked(path, KEY, now=moment())
    (small_disk / "ballast").unlink()
    journal, report = Journal.open_checked(path, KEY, now=moment())
    with journal:
        assert report.damage == ""
        assert [s.seq for s in journal.pending(journal.epoch, 0, 10)] == [1]


def test_a_salvage_without_room_says_so_and_is_done_later(small_disk: Path) -> None:
    """The damaged file is untouched until there is room for what is saved from it."""
    path = small_disk / "journal.db"
    with Journal(path, KEY) as journal:
        for n in range(1, 801):
            journal.append(event(n))
    with path.open("r+b") as file:
        file.write(bytes(100))
    damaged = path.read_bytes()
    fill(small_disk)
    with pytest.raises(JournalError, match="no room left"):
        Journal.open_checked(path, KEY, now=moment())
    assert path.read_bytes() == damaged
    (small_disk / "ballast").unlink()
    journal, report = Journal.open_checked(path, KEY, now=moment())
    with journal:
        assert report.salvaged == 800


def test_nothing_personal_can_be_read_from_the_raw_files(tmp_path: Path) -> None:
    """Neither person nor place nor stop nor kind, in any file, before and after a salvage."""
    path = tmp_path / "journal.db"
    journal = Journal(path, KEY)
    persons = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(200)]
    for person in persons:
        journal.append(replace(event(), person=person))
    journal.confirm(ack(journal.epoch, 100))
    shutil.copytree(tmp_path, tmp_path / "copied")
    journal.close()
    with (tmp_path / "copied" / "journal.db").open("r+b") as file:
        file.write(bytes(100))
    Journal.open_checked(tmp_path / "copied" / "journal.db", KEY, now=moment())[0].close()
    raw = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert len(raw) > 200_000
    assert b"boot-a" in raw  # so the search would find what is in the clear
    texts = (
        *(person[:16] for person in persons),
        "パークバス1",
        "紫山一丁目",
        "boarding",
        "front",
        "bus",
        KEY.hex(),
    )
    for text in texts:
        assert text.encode() not in raw
        assert text.encode("utf-16-le") not in raw
        assert text.encode("unicode_escape") not in raw
    assert KEY not in raw
    assert not any(bytes.fromhex(person)[:8] in raw for person in persons)


def test_deleted_rows_leave_nothing_in_the_file(tmp_path: Path) -> None:
    """Their sealed bytes are overwritten, so a key lost later opens nothing that was deleted."""
    path = tmp_path / "journal.db"
    with Journal(path, KEY, keep_days=0.0) as journal:
        for n in range(1, 100):
            journal.append(event(n))
        sealed = [row[0] for row in journal._db.rows("SELECT sealed FROM event")]
        journal.confirm(ack(journal.epoch, 99))
        journal.prune(moment())
    raw = path.read_bytes()
    assert len(sealed) == 99
    assert not any(body[:24] in raw for body in sealed)
