"""The demo as a person runs it: the whole line, with the truth known."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest

from agent.base.errors import ModelError
from agent.demo.run import DEFAULT_PERSON, Options, run
from tests.waiting import LATE_SECONDS


@pytest.mark.slow
def test_only_the_enrolled_person_is_recognised_and_every_event_reaches_the_city() -> None:
    """Enrolled from one photograph; boards at two stops among 21 strangers."""
    summary = run(Options(headless=True), threading.Event())
    assert summary.enrolled == [DEFAULT_PERSON]
    assert summary.recognised == {DEFAULT_PERSON: 2}
    assert summary.strangers_seen is not None
    assert summary.strangers_seen >= 20
    assert summary.strangers_named == 0
    assert summary.events_committed == summary.events_at_city == 2


@pytest.mark.slow
def test_with_a_page_it_runs_until_it_is_told_to_stop_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "agent", "demo", "--broker", "embedded", "--json"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        try:
            address = next(
                found[0]
                for line in demo.stderr
                if (found := re.search(r"http://127\.0\.0\.1:\d+/", line))
            )
            with urlopen(address, timeout=LATE_SECONDS) as page:  # noqa: S310 - our own, on loopback
                assert "顔パス" in page.read().decode()
        finally:
            demo.send_signal(signal.SIGTERM)
        summary = json.loads(demo.stdout.read())
        complaints = demo.stderr.read()
    assert demo.returncode == 0
    assert complaints == ""
    assert summary["events_committed"] == summary["events_at_city"]
    assert list(tmp_path.iterdir()) == []


def test_liveness_without_its_pack_is_refused_with_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAOPASS_MODELS__DIRECTORY", str(tmp_path))
    with pytest.raises(ModelError, match="kaopass models install faceplugin"):
        run(Options(headless=True, liveness="on"), threading.Event())
