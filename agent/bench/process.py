"""What a process of this machine has cost so far: processor time and memory (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of process *pid*; its children count apart."""
    _, user, system, *_ = _times(pid)
    return (user + system) / _TICKS


def tree_cpu_seconds(pid: int) -> float:
    """The same of *pid* with its children: those that run, and those it has waited for."""
    total = sum(_times(pid)[1:])
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and each.name != str(pid):
            try:
                parent, *times = _times(int(each.name))
            except OSError:
                continue  # it has just ended
            total += sum(times) if parent == pid else 0
    return total / _TICKS


def memory_mb(pid: int) -> tuple[float, float]:
    """(resident now, the most it ever was) of process *pid*, in MB."""
    values = status(pid)
    resident, peak = (int(values[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
    return round(resident, 1), round(peak, 1)


def status(pid: int) -> dict[str, Any]:
    """The lines of /proc/PID/status. Raises OSError when there is no such process."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _times(pid: int) -> tuple[int, int, int, int, int]:
    """Its parent; ticks: user, system, and both of the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[1]), int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14])
