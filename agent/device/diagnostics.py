"""What a technician far away wants to know of a machine: versions, room, memory, heat, load."""

from __future__ import annotations

import os
import platform
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "opencv-python", "onnxruntime", "paho-mqtt", "cryptography")
_KILO = 1024


def diagnostics(software: str, state_directory: Path, root: Path = Path("/")) -> dict[str, Any]:
    """No personal data: nothing here comes from journal or gallery.

    Bytes, seconds and degrees Celsius; None for what this machine does not tell. *root* is where
    /proc and /sys are.
    """
    memory = _memory(root / "proc/meminfo")
    disk = shutil.disk_usage(state_directory)
    return {
        "versions": {
            "kaopass": software,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            **{name: _version(name) for name in PACKAGES},
        },
        "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
        "memory": {
            "available_bytes": memory.get("MemAvailable"),
            "total_bytes": memory.get("MemTotal"),
            "agent_bytes": _memory(root / "proc/self/status").get("VmRSS"),
        },
        "temperatures": _temperatures(root / "sys/class/thermal"),
        "load": [round(value, 2) for value in os.getloadavg()],
        "up_seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME)),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _memory(path: Path) -> dict[str, int]:
    """``Name:  123 kB`` lines, in bytes."""
    found = {}
    for line in _text(path).splitlines():
        name, _, told = line.partition(":")
        words = told.split()
        if len(words) == 2 and words[1] == "kB" and words[0].isdecimal():
            found[name] = int(words[0]) * _KILO
    return found


def _temperatures(zones: Path) -> dict[str, float]:
    found = {}
    for zone in sorted(zones.glob("thermal_zone*")):
        told = _text(zone / "temp").strip()
        if told.lstrip("-").isdecimal():
            found[_text(zone / "type").strip() or zone.name] = int(told) / 1000
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
