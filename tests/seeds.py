"""The seed of what a test draws: always the same, or a new one with KAOPASS_TEST_RANDOM=1."""

from __future__ import annotations

import os
import secrets

RANDOM = os.environ.get("KAOPASS_TEST_RANDOM") == "1"


def seed(fixed: int) -> int:
    """*fixed*, or a new one that a failed test prints."""
    if not RANDOM:
        return fixed
    drawn = secrets.randbelow(2**31)
    print(f"seed {drawn}")  # noqa: T201 - to repeat a failed run
    return drawn
