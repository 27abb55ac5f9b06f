"""What every test shares: servers as fixtures, markers by what a test costs, seeds that stay."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.mosquitto import mosquitto, mosquitto_program
from tests.postgres import postgres, postgres_database
from tests.seeds import RANDOM

__all__ = ["mosquitto", "mosquitto_program", "postgres", "postgres_database"]

# No deadline: how long an example takes is the machine's matter.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("random" if RANDOM else "fixed")

# By a fixture that a test asks for, or the value of a parameter.
SERVERS = {
    **{"mosquitto_program": "broker", "mosquitto": "broker"},
    **{"postgres": "postgres", "postgresql": "postgres"},
}
KINDS = ("broker", "postgres", "browser", "tpm")
LONG_SECONDS = 3.0  # and on a busy machine: whoever takes longer should say so


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever uses a server is marked with its kind, and whoever needs one costs."""
    for item in items:
        names = list(getattr(item, "fixturenames", ()))
        names += getattr(getattr(item, "callspec", None), "params", {}).values()
        for kind in {SERVERS[name] for name in names if isinstance(name, str) and name in SERVERS}:
            item.add_marker(kind)
        if any(item.get_closest_marker(kind) for kind in KINDS):
            item.add_marker("slow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that should be marked slow and are not."""
    for report in _passed(terminalreporter):
        if report.duration > LONG_SECONDS and "slow" not in report.keywords:
            terminalreporter.write_line(f"{report.duration:.1f} s, not slow: {report.nodeid}")


def _passed(reporter: pytest.TerminalReporter) -> Iterator[pytest.TestReport]:
    yield from (each for each in reporter.stats.get("passed", ()) if each.when == "call")
