"""What tests ask of a city that has a database and no authority, so no log."""

from __future__ import annotations

from pathlib import Path

from agent.cityos.events.store import Store
from agent.cityos.usecases.city import CityDatabase


def database_of(store: Store) -> CityDatabase:
    """*store*'s database, to be given to a use case."""
    return CityDatabase(store.engine, Path("no authority"))
