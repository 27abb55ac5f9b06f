"""Transactions on the city's database, whose trouble comes out as one kind of error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from agent.base.errors import CityError
from agent.cityos.db.database import writing


@contextmanager
def committing(engine: Engine, trouble: str) -> Iterator[Connection]:
    """A transaction that writes; *trouble* begins the CityError of one that fails."""
    try:
        with writing(engine).begin() as db:
            yield db
    except SQLAlchemyError as error:
        raise CityError(f"city database: {trouble}: {_plain(error)}") from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads. Raises CityError."""
    try:
        with engine.connect() as db:
            yield db
    except SQLAlchemyError as error:
        raise CityError(f"city database: cannot be read: {_plain(error)}") from error


def _plain(error: SQLAlchemyError) -> str:
    """Without the statement's values, which are people's."""
    return str(getattr(error, "orig", None) or type(error).__name__)
