"""A real browser shows the page as a person sees it: words, lamp, picture and rows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agent.base.values import DoorSignal
from agent.demo.page import Page
from agent.demo.state import DemoState, Row
from tests.waiting import LATE_SECONDS

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--dump-dom",
)


def dom(url: str, profile: Path, wanted: str) -> str:
    """What the page has become once *wanted* is in it, as Chromium writes it out.

    Its streams never end, so the page is looked at after a time: a longer one if that was early.
    """
    for seconds in (2, 10, 50):
        found = dom_after(url, profile, seconds)
        if wanted in found:
            break
    return found


def dom_after(url: str, profile: Path, seconds: int) -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    assert browser, "chromium is missing: apt-get install chromium (scripts/test does it)"
    done = subprocess.run(
        [browser, *FLAGS, f"--timeout={seconds * 1000}", f"--user-data-dir={profile}", url],
        capture_output=True,
        text=True,
        timeout=2 * LATE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_browser_shows_what_the_door_says(tmp_path: Path) -> None:
    state = DemoState(show_seconds=600)
    state.show_frame(np.full((48, 64, 3), 120, np.uint8), [])
    state.set_table(
        [Row("demo-bus-1", 7, "boarding", "デモバス", 1_790_000_000_000, "4bec528c" * 8)]
    )
    with Page(state) as page:
        before = dom(page.url, tmp_path / "one", "4bec528c")
        state.show(DoorSignal("welcome", "さくら"), None)
        after = dom(page.url, tmp_path / "two", "Welcome aboard")
    assert 'data-colour="green"' not in before
    assert re.search(r'id="lamp"[^>]*data-colour="green"', after)
    assert "ご乗車ありがとうございます" in after
    assert "Welcome aboard" in after
    assert "4bec528c" in after
    assert re.search(r'<img id="picture"[^>]*src="[^"]*picture', after)
    # Said to those who cannot see it, too.
    assert re.search(r'aria-live="polite"[^>]*>[^<]*ご乗車', after)
