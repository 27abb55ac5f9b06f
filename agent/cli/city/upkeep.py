"""``kaopass city quarantine|replay|prune|backup``: what a person does about the city's events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from agent.base.errors import CityError, UsageError
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.events.store import Store

KEEP_DAYS = 365.0

database_option = click.option(
    "--database",
    default="city.db",
    show_default=True,
    envvar="KAOPASS_CITY_DATABASE",
    metavar="URL|PATH",
    help="A SQLite file, or an address such as postgresql://user@host/city.",
)
_seq_option = click.option(
    "--seq", type=click.IntRange(min=1), help="Only the event of this number; default: all."
)


@click.group("quarantine")
def quarantine() -> None:
    """Events the city refused and devices it set aside: list, release, drop.

    A refused event stays on its device, too. A device is set aside when one number came with two
    contents (a copied journal) or two journals take turns under its name.
    """


@quarantine.command("list")
@database_option
@click.option("--device", help="Only this device's.")
@json_option
def list_quarantine(database: str, device: str | None, as_json: bool) -> None:
    """Refused events, and devices set aside, with the reason of each."""
    with _store(database) as store:
        rows = store.quarantine(device)
    for row in rows:
        if as_json:
            print_json(row)
        elif row["seq"] is None:
            click.echo(f"{row['device']:<20} set aside: {row['code']}")
        else:
            when = time_text(row["received_ms"])
            click.echo(f"{row['device']:<20} {row['epoch'][:8]} {row['seq']:>7}  {when}  "
                       f"{row['code']}")  # fmt: skip
    if not rows and not as_json:
        click.echo("nothing is in quarantine")


@quarantine.command()
@database_option
@click.argument("device")
@_seq_option
def release(database: str, device: str, seq: int | None) -> None:
    """Take DEVICE in again, and have its refused events offered once more.

    A running 'kaopass city serve' asks the device as soon as it is online; what is good now is
    taken, what is not stays refused.
    """
    with _store(database) as store:
        was_aside, count = store.release(device, seq, _now_ms())
    if was_aside:
        click.echo(f"{device} is taken in again")
    click.echo(f"{count} refused events will be asked for again")


@quarantine.command()
@database_option
@click.argument("device")
@_seq_option
def drop(database: str, device: str, seq: int | None) -> None:
    """Give up refused events of DEVICE for good: they become known gaps."""
    with _store(database) as store:
        count = store.drop(device, seq, _now_ms())
    click.echo(f"{count} refused events are known gaps now")


@click.command("replay")
@database_option
@click.argument("device")
@click.option("--epoch", help="The journal meant; default: the newest one.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, help="From this number on.")
@click.option("--to", "last", type=click.IntRange(min=1), help="Up to this number.")
def replay(database: str, device: str, epoch: str | None, first: int, last: int | None) -> None:
    """Have DEVICE send events again, though nothing seems to be missing.

    What is missing a running 'kaopass city serve' asks for by itself. At most a million numbers at
    a time; repeats change nothing.
    """
    from agent.protocol.commands import MAX_REPLAY, Replay, replay_arguments

    last = first + MAX_REPLAY - 1 if last is None else last
    if not first <= last < first + MAX_REPLAY:
        raise UsageError(f"--from {first} --to {last}: give at most {MAX_REPLAY} numbers, upwards")
    with _store(database) as store:
        found = next((row for row in store.devices() if row.name == device), None)
        known = found.epochs if found else {}
        wanted = epoch or (found.epoch if found else "")
        matching = [name for name in known if wanted and name.startswith(wanted)]
        if len(matching) != 1:
            raise CityError(
                f"{device} has {len(matching)} epochs that begin with {wanted!r}: "
                "see 'kaopass city devices --json'"
            )
        arguments = replay_arguments(Replay(matching[0], first, last))
        name = store.order(device, "replay", arguments, _now_ms())
    click.echo(f"{device} will be asked for {matching[0][:8]} {first} to {last}: {name}")


@click.command("prune")
@database_option
@click.option(
    "--keep-days",
    type=click.FloatRange(min=1),
    default=KEEP_DAYS,
    show_default=True,
    envvar="KAOPASS_CITY_KEEP_DAYS",
    show_envvar=True,
    help="How long events stay after the city received them.",
)
def prune(database: str, keep_days: float) -> None:
    """Delete events past their time; run it daily from a timer.

    Where each sequence ended is kept, so that a late repeat does not bring an event back.
    """
    with _store(database) as store:
        count = store.prune(keep_days, _now_ms())
    click.echo(f"{count} events older than {keep_days:g} days deleted")


@click.command("backup")
@database_option
@click.argument("file", type=click.Path(dir_okay=False))
def backup(database: str, file: str) -> None:
    """Copy a SQLite database to FILE, whole as of one moment, while the city side runs.

    To restore, stop the city side, put FILE in the database's place, and start it: what came
    since then it asks the devices for by itself, as long as they keep it (journal.keep_days).
    PostgreSQL has its own tools for both: pg_dump and pg_restore.
    """
    with _store(database) as store:
        store.backup(file)
    click.echo(f"backed up to {file}")


def open_store(database: str, *, create: bool) -> Store:
    """The city's database, opened. Raises CityError."""
    need_sqlalchemy()
    from agent.cityos.events.store import Store

    return Store(database, create=create)


def need_sqlalchemy() -> None:
    """Raise CityError with what to install unless the city side's packages are there."""
    try:
        import sqlalchemy  # noqa: F401 - only to say what is missing
    except ImportError as error:
        raise CityError(
            "the city side needs SQLAlchemy, which is not installed; "
            "install it with: pip install 'kaopass[city]'"
        ) from error


def time_text(unix_ms: int) -> str:
    """UTC to the second."""
    try:
        moment = datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"  # a clock set to nonsense
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def _store(database: str) -> Iterator[Store]:
    store = open_store(database, create=False)
    try:
        yield store
    finally:
        store.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
