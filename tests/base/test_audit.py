"""The audit log shows every change to what was written, and names nobody."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.base.audit import GENESIS, AuditLog, audited, entries, verify
from agent.base.errors import AuditError
from tests.waiting import LATE_SECONDS

KEY = b"k" * 32


def filled(path: Path, count: int = 5) -> AuditLog:
    log = AuditLog(path, KEY)
    for number in range(count):
        log.append("device.enrolled", actor="tanaka", subject=f"p-{number}", number=number)
    return log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def test_entries_come_back_as_written_and_the_chain_holds(path: Path) -> None:
    last = filled(path).append("data.erased", actor="tanaka", subject="p-1", rows=3)
    found = list(entries(path))
    assert found[-1] == last
    assert [e.seq for e in found] == [1, 2, 3, 4, 5, 6]
    assert found[0].prev == GENESIS
    assert verify(path) == verify(path, found[2].hash)
    assert verify(path).head == last.hash
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_was_never_begun_is_empty(path: Path) -> None:
    assert verify(path).entries == 0


def test_nobody_is_named_but_can_be_looked_up_with_the_key(path: Path) -> None:
    log = filled(path)
    raw = path.read_text()
    assert "tanaka" not in raw
    assert "p-3" not in raw
    assert [e.seq for e in entries(path) if e.subject == log.reference("p-3")] == [4]
    assert AuditLog(path, b"x" * 32).reference("p-3") != log.reference("p-3")


@pytest.mark.parametrize("line", range(5))
def test_any_byte_changed_in_any_line_is_found(path: Path, line: int) -> None:
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for at in range(len(lines[line])):
        changed = bytearray(lines[line])
        changed[at] ^= 1
        path.write_bytes(b"".join([*lines[:line], bytes(changed), *lines[line + 1 :]]))
        if line == 4 and at == len(changed) - 1:
            assert verify(path).entries == 4  # looks like an entry that was never finished
            continue
        with pytest.raises(AuditError, match="line"):
            verify(path)


@pytest.mark.parametrize("how", ["removed", "swapped", "doubled"])
def test_lines_moved_about_are_found(path: Path, how: str) -> None:
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    if how == "removed":
        del lines[2]
    elif how == "swapped":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines.insert(2, lines[1])
    path.write_bytes(b"".join(lines))
    with pytest.raises(AuditError, match="does not follow"):
        verify(path)


def test_a_cut_end_is_found_with_a_head_noted_before(path: Path) -> None:
    filled(path)
    head = verify(path).head
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert verify(path).entries == 4
    with pytest.raises(AuditError, match="cut off"):
        verify(path, head)


def test_a_power_cut_at_any_byte_loses_nothing_before_and_is_noted(path: Path) -> None:
    filled(path, 2)
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for cut in range(second, len(whole)):
        path.write_bytes(whole[:cut])
        assert verify(path).torn_bytes == cut - second
        AuditLog(path, KEY).append("device.revoked")
        actions = [e.action for e in entries(path)]
        torn = ["audit.torn"] if cut > second else []
        assert actions == ["device.enrolled", *torn, "device.revoked"]


def _write(path: Path) -> None:
    log = AuditLog(path, KEY)
    for _ in range(20):
        log.append("data.sent")


def test_several_processes_write_one_chain(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(path,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(LATE_SECONDS)
        assert writer.exitcode == 0
    assert verify(path).entries == 60


def test_a_damaged_end_is_never_written_over(path: Path) -> None:
    log = filled(path)
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(AuditError, match="last entry is damaged"):
        log.append("data.sent")


def test_an_entry_takes_words_and_small_facts_only(path: Path) -> None:
    log = AuditLog(path, KEY)
    with pytest.raises(AuditError, match="dotted"):
        log.append("Enrolled!")
    with pytest.raises(AuditError, match="fact"):
        log.append("data.sent", note="x" * 300)
    assert not path.exists()


def test_what_cannot_be_noted_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="cannot be written"):
        AuditLog(tmp_path / "file" / "audit.jsonl", KEY).append("data.sent")


def test_a_line_written_in_another_spelling_is_a_change(path: Path) -> None:
    filled(path, 1)
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps(value, sort_keys=True) + "\n")
    with pytest.raises(AuditError, match="form it was written"):
        verify(path)


def erase(log: AuditLog, fails: Callable[[], object]) -> None:
    """An act that fails after its entry."""
    with audited(log, "tanaka") as note:
        note("data.erased", subject="p-1", rows=3)
        fails()


def full_disk() -> None:
    raise OSError("disk full")


def test_an_act_that_fails_after_its_entry_is_said_to_have_failed(path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        erase(AuditLog(path, KEY), full_disk)
    noted, failed = entries(path)
    assert failed.action == "act.failed"
    assert failed.facts == {"entry": noted.seq, "what": "data.erased", "error": "OSError"}
    assert (failed.actor, failed.subject) == (noted.actor, noted.subject)


def test_an_act_refused_before_its_entry_leaves_none(path: Path) -> None:
    with pytest.raises(OSError, match="disk full"), audited(AuditLog(path, KEY), "tanaka"):
        full_disk()
    assert verify(path).entries == 0


def test_an_act_that_cannot_be_noted_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done: list[str] = []
    with pytest.raises(AuditError, match="cannot be written"):
        erase(AuditLog(tmp_path / "file" / "audit.jsonl", KEY), lambda: done.append("erased"))
    assert done == []


def test_the_acts_own_error_comes_out_though_nothing_can_be_noted_by_then(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose() -> None:
        path.unlink()
        path.mkdir()
        full_disk()

    with pytest.raises(OSError, match="disk full"):
        erase(AuditLog(path, KEY), lose)
    assert "act of audit entry 1 failed is not noted" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_log_that_root_begins_belongs_to_whoever_goes_on_with_it(tmp_path: Path) -> None:
    """``sudo kaopass keys rotate`` may be the first that is noted on a device."""
    os.chown(tmp_path, 1234, 1235)
    AuditLog(tmp_path / "audit.jsonl", KEY).append("keys.rotated")
    made = (tmp_path / "audit.jsonl").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (1234, 1235, 0o600)
