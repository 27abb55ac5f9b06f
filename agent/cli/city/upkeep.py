"""``kaopass city quarantine|replay|prune|backup``: what a person does about the city's events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.base.errors import UsageError
from agent.cli.city.common import city_options, database, now_ms, time_text
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.usecases.office import CityPlaces

KEEP_DAYS = 365.0

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
@city_options(ca=False, database=True)
@click.option("--device", help="Only this device's.")
@json_option
def list_quarantine(places: CityPlaces, device: str | None, as_json: bool) -> None:
    """Refused events, and devices set aside, with the reason of each."""
    from agent.cityos.usecases import upkeep

    with database(places) as opened:
        rows = upkeep.quarantine(opened, device)
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
@city_options(database=True)
@click.argument("device")
@_seq_option
def release(places: CityPlaces, device: str, seq: int | None) -> None:
    """Take DEVICE in again, and have its refused events offered once more.

    A running 'kaopass city serve' asks the device as soon as it is online; what is good now is
    taken, what is not stays refused.
    """
    from agent.cityos.usecases import upkeep

    with database(places) as opened:
        done = upkeep.release(opened, device, seq, now_ms())
    if done.was_aside:
        click.echo(f"{device} is taken in again")
    click.echo(f"{done.events} refused events will be asked for again")


@quarantine.command()
@city_options(database=True)
@click.argument("device")
@_seq_option
def drop(places: CityPlaces, device: str, seq: int | None) -> None:
    """Give up refused events of DEVICE for good: they become known gaps."""
    from agent.cityos.usecases import upkeep

    with database(places) as opened:
        count = upkeep.drop(opened, device, seq, now_ms())
    click.echo(f"{count} refused events are known gaps now")


@click.command("replay")
@city_options(database=True)
@click.argument("device")
@click.option("--epoch", help="The journal meant; default: the newest one.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, help="From this number on.")
@click.option("--to", "last", type=click.IntRange(min=1), help="Up to this number.")
def replay(
    places: CityPlaces, device: str, epoch: str | None, first: int, last: int | None
) -> None:
    """Have DEVICE send events again, though nothing seems to be missing.

    What is missing a running 'kaopass city serve' asks for by itself. At most a million numbers at
    a time; repeats change nothing.
    """
    from agent.protocol.commands import MAX_REPLAY

    last = first + MAX_REPLAY - 1 if last is None else last
    if not first <= last < first + MAX_REPLAY:
        raise UsageError(f"--from {first} --to {last}: give at most {MAX_REPLAY} numbers, upwards")
    from agent.cityos.usecases import upkeep

    with database(places) as opened:
        asked = upkeep.replay(opened, device, epoch or "", first, last, now_ms())
    click.echo(f"{device} will be asked for {asked.epoch[:8]} {first} to {last}: {asked.command}")


@click.command("prune")
@city_options(database=True)
@click.option(
    "--keep-days",
    type=click.FloatRange(min=1),
    default=KEEP_DAYS,
    show_default=True,
    envvar="KAOPASS_CITY_KEEP_DAYS",
    show_envvar=True,
    help="How long events stay after the city received them.",
)
def prune(places: CityPlaces, keep_days: float) -> None:
    """Delete events past their time; run it daily from a timer.

    Where each sequence ended is kept, so that a late repeat does not bring an event back.
    """
    from agent.cityos.usecases import upkeep

    with database(places) as opened:
        count = upkeep.prune(opened, keep_days, now_ms())
    click.echo(f"{count} events older than {keep_days:g} days deleted")


@click.command("backup")
@city_options(database=True)
@click.argument("file", type=click.Path(dir_okay=False))
def backup(places: CityPlaces, file: str) -> None:
    """Copy a SQLite database to FILE, whole as of one moment, while the city side runs.

    To restore, stop the city side, put FILE in the database's place, and start it: what came
    since then it asks the devices for by itself, as long as they keep it (journal.keep_days).
    PostgreSQL has its own tools for both: pg_dump and pg_restore.
    """
    from agent.cityos.usecases import upkeep

    with database(places) as opened:
        upkeep.backup(opened, file)
    click.echo(f"backed up to {file}")
