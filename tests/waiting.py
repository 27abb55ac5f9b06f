"""Waiting for what must come, with a deadline so late that no busy machine reaches it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

LATE_SECONDS = 60.0
LOOK_SECONDS = 0.01
T = TypeVar("T")


def until(
    condition: Callable[[], object],
    what: str = "",
    *,
    seconds: float = LATE_SECONDS,
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


def never(condition: Callable[[], object], what: str = "", *, seconds: float = 0.2) -> None:
    """Look for a while whether *condition* comes, and fail the test if it does.

    A busy machine makes this look less often, but never fail without a reason.
    """
    end = time.monotonic() + seconds
    while True:
        if condition():
            pytest.fail(f"should not have come: {what or condition}")
        if time.monotonic() > end:
            return
        time.sleep(LOOK_SECONDS)


def returns(call: Callable[[], T], seconds: float = LATE_SECONDS) -> T:
    """What *call* returns; fail the test if it hangs. Errors it raises are raised here."""
    found: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        pytest.fail(f"not back within {seconds} s: {call}")
    return found[0]
