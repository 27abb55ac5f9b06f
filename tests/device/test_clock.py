"""The clock: monotonic order always, and an honest word on how far the wall clock is trusted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.base.values import BUILT_MS
from agent.device.clock import KernelClock, SystemClock, kernel_clock

LATER_NS = (BUILT_MS + 86_400_000) * 1_000_000


HOUR_NS = 3_600_000_000_000


def clock(
    folder: Path,
    kernel: KernelClock | None,
    *,
    wall_ns: int = LATER_NS,
    mark_ns: int | None = None,
) -> SystemClock:
    boot_id = folder / "boot_id"
    boot_id.write_text("18665dd7-851e-465a-a84f-2941efcbce01\n", encoding="ascii")
    mark = folder / "synchronized"
    if mark_ns is not None:
        mark.touch()
        os.utime(mark, ns=(mark_ns, mark_ns))
    return SystemClock(
        boot_id_file=boot_id, timesync_file=mark, kernel=lambda: kernel, wall_ns=lambda: wall_ns
    )


@pytest.mark.parametrize(
    ("kernel", "mark_ns", "expected"),
    [
        (KernelClock(synchronised=True, error_ms=12), None, ("ntp", 12)),
        (KernelClock(synchronised=False, error_ms=16_000), None, ("saved", -1)),
        # The kernel may have lost its trust since timesyncd's mark: its word counts.
        (KernelClock(synchronised=False, error_ms=16_000), LATER_NS, ("saved", -1)),
        # Where the kernel may not be asked: fresh, an hour old, a day old, from the future, none.
        (None, LATER_NS, ("ntp", 5_000)),
        (None, LATER_NS - HOUR_NS, ("ntp", 6_800)),
        (None, LATER_NS - 24 * HOUR_NS, ("saved", -1)),
        (None, LATER_NS + HOUR_NS, ("saved", -1)),
        (None, None, ("saved", -1)),
    ],
)
def test_the_clock_says_where_its_time_comes_from(
    tmp_path: Path, kernel: KernelClock | None, mark_ns: int | None, expected: tuple[str, int]
) -> None:
    moment = clock(tmp_path, kernel, mark_ns=mark_ns).now()
    assert (moment.clock, moment.error_ms) == expected
    assert moment.wall_ms == LATER_NS // 1_000_000
    assert moment.boot == "18665dd7-851e-465a-a84f-2941efcbce01"


@pytest.mark.parametrize("wall_ns", [0, (BUILT_MS - 1) * 1_000_000])
def test_a_time_before_the_software_was_written_is_unset_whatever_the_kernel_says(
    tmp_path: Path, wall_ns: int
) -> None:
    moment = clock(tmp_path, KernelClock(synchronised=True, error_ms=1), wall_ns=wall_ns).now()
    assert (moment.clock, moment.error_ms) == ("unset", -1)


def test_the_real_clock_is_that_of_this_machine_and_goes_forward() -> None:
    real = SystemClock()
    before_ms, began_ms = time.monotonic() * 1000, time.time() * 1000
    first, second = real.now(), real.now()
    after_ms, ended_ms = time.monotonic() * 1000, time.time() * 1000
    assert first.boot == second.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert second.mono_ms >= first.mono_ms
    assert before_ms - 1 <= first.mono_ms <= after_ms + 1
    assert began_ms - 1 <= first.wall_ms <= ended_ms + 1
    assert first.clock in {"ntp", "saved", "unset"}


def test_the_kernel_answers_with_a_sane_error() -> None:
    """A misread ``struct timex`` would show here: NTP's largest error is 16 s (RFC 5905)."""
    kernel = kernel_clock()
    if kernel is not None:  # a sandbox may forbid the question
        assert 0 <= kernel.error_ms <= 16_000_000
