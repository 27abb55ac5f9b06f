"""A small fleet survives its broker, and the soak's arithmetic would notice a leak."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fleet.run import run
from tests.fleet.soak import Sample, drift


@pytest.mark.broker
@pytest.mark.parametrize("tls", [False, True])
def test_every_device_comes_back_after_the_broker_died_and_no_event_is_missing(
    tmp_path: Path, tls: bool
) -> None:
    """The short version of scripts/fleet."""
    found = run(
        tmp_path, count=40, real=2, seconds=3.0, tls=tls, database=str(tmp_path / "city.db")
    )
    assert found["drained"]
    assert (found["lost"], found["duplicated"]) == (0, 0)
    assert found["events"] != 0
    assert found["lag"] == 0


def test_a_leak_shows_as_drift_and_a_warm_up_does_not() -> None:
    warm = [Sample(10.0 * min(n, 5), 3, 9) for n in range(1, 41)]
    assert drift(warm)["rss_drift_percent"] == 0
    leak = [Sample(100.0 + n, 3 + n // 10, 9 + n) for n in range(40)]
    found = drift(leak)
    assert found["rss_drift_percent"] > 10
    assert found["threads_late"] > found["threads_early"]
    assert found["descriptors_late"] > found["descriptors_early"]
