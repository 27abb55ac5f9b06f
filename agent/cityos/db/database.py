"""Opening the city's database: SQLite by path, PostgreSQL by address, each as safe as it gets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from agent.base.errors import CityError, UsageError
from agent.base.sqlite import FileKind, connect, find_damage
from agent.base.wholefile import create_file
from agent.cityos.db import migrations

CITY = FileKind(
    name="database",
    error=CityError,
    remedy=(
        "stop city serve, move it aside with its -wal, and put a backup in its place: devices send"
        " again what they keep and it lacks"
    ),
    steps={},  # ``migrations`` takes them, in PostgreSQL too
)
_WRITES = "kaopass_writes"


def address(database: str) -> str:
    """An SQLAlchemy address: *database* itself if it is one, else it is the path of a SQLite file.

    Raises UsageError for an address of another kind of database.
    """
    if "://" not in database:
        return f"sqlite:///{Path(database).expanduser().absolute()}"
    scheme, _, rest = database.partition("://")
    if scheme in ("postgresql", "postgres"):
        return f"postgresql+psycopg://{rest}"  # the driver that the extra "city" brings
    if scheme.split("+")[0] not in ("sqlite", "postgresql"):
        raise UsageError(f"database {scheme}://...: only sqlite and postgresql are supported")
    return database


def open_engine(database: str, *, create: bool) -> Engine:
    """Open *database* (an address or a path); with *create*, make or convert its tables.

    No error of it shows a statement's values, which are people's: errors go to the log.
    Raises CityError when it cannot be opened, or does not exist and may not be created.
    """
    try:
        url = make_url(address(database))
        shown = url.render_as_string(hide_password=True)
        engine = _sqlite(url, create=create) if url.get_backend_name() == "sqlite" else _server(url)
        with ExitStack() as on_error:
            on_error.callback(engine.dispose)
            if create:
                migrations.migrate(writing(engine))
            else:
                _check_layout(engine, shown)
            on_error.pop_all()
    except ImportError as error:
        raise CityError(f"database {shown}: its driver is missing: {error}") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        shown = database.rpartition("@")[2]  # an address may hold a password before it
        path = None if "://" in database else Path(database)
        raise CityError(f"database {shown}: cannot be opened: {_in_words(error, path)}") from error
    return engine


@contextmanager
def errors_named(engine: Engine, doing: str) -> Iterator[None]:
    """Around a use of *engine*: its errors leave as CityError, that *doing* failed, and why."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        file = engine.url.database if engine.dialect.name == "sqlite" else None
        shown, path = (f" {file}", Path(file)) if file else ("", None)
        raise CityError(f"city database{shown}: {doing}: {_in_words(error, path)}") from error


@contextmanager
def committing(engine: Engine, doing: str) -> Iterator[Connection]:
    """A transaction that writes, as ``writing`` says; CityError says that *doing* failed."""
    with errors_named(engine, doing), writing(engine).begin() as db:
        yield db


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads. Raises CityError."""
    with errors_named(engine, "it cannot be read"), engine.connect() as db:
        yield db


def _in_words(error: Exception, path: Path | None) -> str:
    """Without the statement, whose values are people's; of the file at *path*, what to do."""
    cause = getattr(error, "orig", None) or error
    if path is not None and isinstance(cause, (sqlite3.Error, OSError)):
        return CITY.in_words(path, cause)
    return str(cause)


def _check_layout(engine: Engine, shown: str) -> None:
    with engine.connect() as db:
        found = migrations.version(db)
    if found != migrations.HEAD:
        raise CityError(
            f"database {shown} has no tables, or an older layout: "
            "start 'kaopass city serve' on it once"
        )


def writing(engine: Engine) -> Engine:
    """*engine* for transactions that write: in SQLite they wait for their turn at the beginning."""
    return engine.execution_options(**{_WRITES: True})


def insert_for(engine: Engine) -> Any:
    """The engine's ``insert`` that knows ON CONFLICT."""
    return postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert


def _sqlite(url: URL, *, create: bool) -> Engine:
    path = Path(url.database or ":memory:")
    if url.database:
        if create:
            create_file(path)
            with closing(connect(path, CITY, read_only=True)) as db:
                if damage := find_damage(db, path, quick=True):
                    raise sqlite3.DatabaseError(damage)
        elif not path.is_file():
            raise CityError(f"database {path}: no such file; run 'kaopass city serve'")
    waiting = {"timeout": CITY.busy_seconds}
    engine = create_engine(url, hide_parameters=True, connect_args=waiting)

    def prepare(connection: Any, _record: object) -> None:
        # The driver would begin transactions by itself: too late for DDL, or SELECT before INSERT.
        connection.isolation_level = None
        CITY.prepare(connection, path)

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _server(url: URL) -> Engine:
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "handle_error", _without_rows)
    return engine


def _without_rows(context: ExceptionContext) -> None:
    """PostgreSQL adds the failing row to its message, in lines after the first."""
    if getattr(context.original_exception, "sqlstate", None) is None:
        return  # no statement failed, but the connection: nobody's values
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
