"""How long faces are used without the city's word: powered-on time, whatever restarts say."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from agent.gallery.city.lease import SAVE_MS, Lease, LeaseFile, LeaseTiming

HOUR = 3_600_000
TIMING = LeaseTiming(lease_ms=72 * HOUR, confirm_ms=60_000)
KEY = bytes(32)


class Boot:
    """One boot of a device, whose CLOCK_BOOTTIME the test turns."""

    def __init__(self, folder: Path, name: str, now_ms: int = 5_000) -> None:
        self.folder, self.name, self.now_ms = folder, name, now_ms
        self.start()

    def start(self) -> Lease:
        """The agent starts, for the first time or again."""
        file = LeaseFile(self.folder / "lease", KEY)
        self.lease = Lease(TIMING, file, self.name, lambda: self.now_ms)
        return self.lease

    def run(self, ms: int) -> None:
        """Time passes, in which the agent does what it does all the time; the last hour of it."""
        end = self.now_ms + ms
        self.now_ms = max(self.now_ms, end - 3_600_000)
        while self.now_ms < end:
            self.now_ms = min(end, self.now_ms + SAVE_MS // 2)
            self.lease.turn()


@pytest.fixture
def proved(tmp_path: Path) -> Boot:
    boot = Boot(tmp_path, "boot-1")
    boot.lease.proved_ago(0)
    return boot


def test_without_any_proof_faces_are_off(tmp_path: Path) -> None:
    assert "for 72 h" in Boot(tmp_path, "boot-1").lease.trouble()


def test_it_runs_out_after_its_hours_and_comes_back_with_a_proof(proved: Boot) -> None:
    assert proved.lease.trouble() == ""
    proved.run(72 * HOUR - 1)
    assert proved.lease.trouble() == ""
    proved.run(1)
    assert "for 72 h" in proved.lease.trouble()
    proved.lease.proved_ago(1_000)
    assert proved.lease.trouble() == ""
    assert proved.lease.left_ms == 72 * HOUR - 1_000


def test_a_restart_in_the_same_boot_gains_nothing_and_loses_nothing(proved: Boot) -> None:
    for _ in range(100):
        proved.run(60_500)
        proved.now_ms += 1_000  # the agent is down
        proved.start()
    assert proved.lease.left_ms == 72 * HOUR - 100 * 61_500


def test_a_power_cut_gains_nothing_and_time_switched_off_does_not_count(proved: Boot) -> None:
    """Cut at any moment, again and again: what was used never gets less."""
    used_ms, boot = 0, proved
    for number in range(60):
        alive_ms = 1_000 + 1_777 * number
        boot.run(alive_ms)
        used_ms += alive_ms
        boot = Boot(proved.folder, f"boot-{number + 2}")
        used_ms += 5_000  # since this boot began
        left = boot.lease.left_ms
        assert 72 * HOUR - used_ms - (number + 1) * SAVE_MS <= left <= 72 * HOUR - used_ms


def test_an_orderly_end_counts_exactly(proved: Boot) -> None:
    proved.run(HOUR)
    proved.lease.close()
    assert Boot(proved.folder, "boot-2").lease.left_ms == 71 * HOUR - 5_000


@pytest.mark.parametrize("spoil", ["used_ms", "boot", "mac", "all", "gone"])
def test_what_was_altered_counts_as_run_out(proved: Boot, spoil: str) -> None:
    path = proved.folder / "lease"
    told = json.loads(path.read_bytes())
    if spoil == "gone":
        path.unlink()
    elif spoil == "all":
        path.write_bytes(b"\0" * 20)
    else:
        told[spoil] = 0 if spoil == "used_ms" else "x"
        told["used_ms"] = min(told["used_ms"], 0)
        told["ahead_ms"] = 0
        path.write_text(json.dumps(told))
    assert proved.start().left_ms == 0


def test_after_a_start_the_city_is_waited_for(proved: Boot) -> None:
    later = Boot(proved.folder, "boot-2")
    assert "not on yet" in later.lease.trouble()
    later.lease.connected()
    later.run(59_000)
    assert "not on yet" in later.lease.trouble()
    later.lease.proved_ago(500)
    assert later.lease.trouble() == ""


def test_with_the_broker_out_of_reach_it_goes_on_under_its_lease(proved: Boot) -> None:
    later = Boot(proved.folder, "boot-2")
    later.run(59_999)
    assert "not on yet" in later.lease.trouble()
    later.run(1)
    assert later.lease.trouble() == ""


def test_a_connection_found_late_is_given_its_time(proved: Boot) -> None:
    """Connected in the 59th second: what the city has to say is on its way."""
    later = Boot(proved.folder, "boot-2")
    later.run(59_000)
    later.lease.connected()
    later.run(30_000)
    assert "not on yet" in later.lease.trouble()
    later.run(30_000)
    assert later.lease.trouble() == ""


def test_beyond_the_lease_nothing_confirms_but_a_proof(proved: Boot) -> None:
    proved.run(73 * HOUR)
    later = Boot(proved.folder, "boot-2")
    later.run(HOUR)
    assert "for 72 h" in later.lease.trouble()


def test_a_full_disk_does_not_lengthen_it(proved: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is as strict as what is there."""

    def full_disk(path: Path, content: bytes) -> None:
        del content
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    proved.run(HOUR)
    monkeypatch.setattr("agent.gallery.city.lease.write_file", full_disk)
    proved.run(HOUR)
    assert proved.lease.left_ms == 70 * HOUR
    assert proved.start().left_ms == 70 * HOUR
