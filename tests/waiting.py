"""Waiting for what must come, with a deadline so late that no busy machine reaches it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

LATE_SECONDS = 60.0
LOOK_SECONDS = 0.01


def until(
    condition: Callable[[], object],
    seconds: float = LATE_SECONDS,
    what: str = "",
    *,
    meanwhile: Callable[[], object] | None = None,
) -> None:
    """Wait for *condition*; fail the test if it does not come.

    *meanwhile* is called before each look: one turn of what the condition waits for.
    """
    deadline = time.monotonic() + seconds
    while True:
        if meanwhile is not None:
            meanwhile()
        if condition():
            return
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what or condition}")
        time.sleep(LOOK_SECONDS)
