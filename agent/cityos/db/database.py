"""Opening the city's database: SQLite by path, PostgreSQL by address, each as safe as it gets."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import SQLAlchemyError

from agent.base.errors import CityError, UsageError
from agent.cityos.db import migrations

BUSY_MS = 10_000
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
        engine = create_engine(url, hide_parameters=True)
        with ExitStack() as on_error:
            on_error.callback(engine.dispose)
            if engine.dialect.name == "sqlite":
                if not create and url.database and not Path(url.database).is_file():
                    raise CityError(
                        f"database {url.database}: no such file; run 'kaopass city serve'"
                    )
                event.listen(engine, "connect", _durable)
                event.listen(engine, "begin", _begin)
            else:
                event.listen(engine, "handle_error", _without_rows)
            if create:
                migrations.migrate(writing(engine))
            else:
                _check_layout(engine, shown)
            on_error.pop_all()
    except ImportError as error:
        raise CityError(f"database {shown}: its driver is missing: {error}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        shown = database.rpartition("@")[2]  # an address may hold a password before it
        raise CityError(f"database {shown}: cannot be opened: {error}") from error
    return engine


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


def _durable(connection: DBAPIConnection, _record: object) -> None:
    # The driver would begin transactions by itself, too late for DDL and for SELECT before INSERT.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # NORMAL may lose a commit that was acknowledged
    cursor.execute("PRAGMA secure_delete = ON")  # what is erased is overwritten where it lay
    cursor.close()


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
