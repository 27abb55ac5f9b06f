"""The city's tables, one definition for SQLite and PostgreSQL, and how each is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from agent.errors import CityError, UsageError

METADATA = MetaData()


def _key(name: str) -> Column[Any]:
    return Column(name, String, primary_key=True)


def _number(name: str, *, key: bool = False, nullable: bool = False) -> Column[Any]:
    return Column(name, BigInteger, primary_key=key, nullable=nullable, autoincrement=False)


def _text(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, String, nullable=nullable)


EVENT = Table(
    "event",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("seq", key=True),
    _text("kind"),
    _text("purpose"),
    _text("person"),
    _text("place_kind"),
    _text("place"),
    _text("door"),
    _text("stop", nullable=True),
    _text("boot"),
    _number("mono_ms"),
    _number("wall_ms"),
    _text("clock"),
    _number("error_ms"),
    _number("corrected_ms", nullable=True),
    _number("received_ms"),
)
# Events the city could not take: known, so that the sequence has no hole there.
REJECTED = Table(
    "rejected",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("seq", key=True),
    _text("code"),
    _number("received_ms"),
)
# Up to where each sequence is complete: every number is an event, rejected, or a known gap.
STREAM = Table("stream", METADATA, _key("device"), _key("epoch"), _number("upto"))
# Numbers the device said, in a birth, that it no longer holds.
GAP = Table(
    "gap",
    METADATA,
    _key("device"),
    _key("epoch"),
    _number("first", key=True),
    _number("last"),
    _number("noted_ms"),
)
DEVICE = Table(
    "device",
    METADATA,
    _key("name"),
    Column("online", Boolean, nullable=False),
    _number("connection"),
    _text("birth"),
    _number("last_seen_ms"),
)


def address(database: str) -> str:
    """An SQLAlchemy address: *database* itself if it is one, else it is the path of a SQLite file.

    Raises UsageError for an address of another kind of database.
    """
    if "://" not in database:
        return f"sqlite:///{Path(database).expanduser().absolute()}"
    scheme = database.split("://", 1)[0]
    if scheme.split("+")[0] not in ("sqlite", "postgresql"):
        raise UsageError(f"database {scheme}://...: only sqlite and postgresql are supported")
    return database


def open_engine(database: str, *, create: bool) -> Engine:
    """Open *database* (an address or a path) and make its tables when *create*.

    Raises CityError when it cannot be opened, or does not exist and may not be created.
    """
    try:
        url = make_url(address(database))
        shown = url.render_as_string(hide_password=True)
        if url.get_backend_name() == "sqlite":
            if not create and url.database and not Path(url.database).is_file():
                raise CityError(f"database {url.database}: no such file; run 'kaopass city serve'")
            engine = create_engine(url)
            event.listen(engine, "connect", _durable)
        else:
            engine = create_engine(url, pool_pre_ping=True)
        if create:
            METADATA.create_all(engine)
        else:
            engine.connect().close()
    except ImportError as error:
        raise CityError(f"database {shown}: its driver is missing: {error}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        shown = database.rpartition("@")[2]  # an address may hold a password before it
        raise CityError(f"database {shown}: cannot be opened: {error}") from error
    return engine


def _durable(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 10000")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # NORMAL may lose a commit that was acknowledged
    cursor.close()
