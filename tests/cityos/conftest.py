"""What tests of the city side share: a database of either kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.cityos.events.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, once of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "city.db")
    found: str = request.getfixturevalue("postgres_database")
    return found


@pytest.fixture
def open_store(database: str) -> Iterator[Callable[[], Store]]:
    """Opens stores on ``database`` and closes them in the end."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(Store(database))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
