"""Diagnostics tell of the machine what it tells, and None where it does not."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

from agent.device.diagnostics import PACKAGES, diagnostics


def test_memory_and_heat_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    for name, content in {
        "proc/meminfo": "MemTotal:  1000 kB\nMemAvailable:     400 kB\nHugePages_Total: 0\n",
        "proc/self/status": "Name:\tpython\nVmRSS:\t   64 kB\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone1/temp": "-1500\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = diagnostics("0.1.0", tmp_path, tmp_path)
    assert found["memory"] == {
        "available_bytes": 400 * 1024,
        "total_bytes": 1000 * 1024,
        "agent_bytes": 64 * 1024,
    }
    assert found["temperatures"] == {"cpu-thermal": 48.312, "thermal_zone1": -1.5}


def test_a_machine_that_tells_little_is_no_failure(tmp_path: Path) -> None:
    found = diagnostics("0.1.0", tmp_path, tmp_path / "nothing")
    assert found["memory"]["available_bytes"] is None
    assert found["temperatures"] == {}
    assert found["versions"]["kaopass"] == "0.1.0"
    assert found["disk"]["free_bytes"] > 0
    json.dumps(found, allow_nan=False)


def test_every_package_it_tells_of_is_one_that_a_device_installs(tmp_path: Path) -> None:
    needed = {requirement.split(">")[0] for requirement in metadata.requires("kaopass") or ()}
    assert set(PACKAGES) <= needed
