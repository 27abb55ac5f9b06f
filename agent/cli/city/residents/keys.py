"""``kaopass city keys|enrolments``: one copy of the town's keys, and what devices have enrolled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.city.common import (
    city_options,
    database,
    now_ms,
    office,
    time_text,
)
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.usecases.office import CityPlaces

_file = click.Path(path_type=Path, dir_okay=False)


@click.group("enrolments")
def enrolments() -> None:
    """Residents who were enrolled at a device: taken or refused by the city."""


@enrolments.command("list")
@city_options(ca=False, database=True)
@click.option("--state", type=click.Choice(["new", "taken", "refused"]), help="Only these.")
@json_option
def list_enrolments(places: CityPlaces, state: str | None, as_json: bool) -> None:
    """Enrolments that came from devices, and why some were refused; a running city side settles."""
    from agent.cityos.usecases.from_devices import listed

    with database(places) as opened:
        rows = listed(opened, state)
    if not rows and not as_json:
        click.echo("no such enrolments" if state else "no enrolments")
    for row in rows:
        if as_json:
            print_json(row)
        else:
            click.echo(
                f"{row['device']:<20} {row['epoch'][:8]} {row['seq']:>7} "
                f"{time_text(row['received_ms'])}  {row['state']:<8} {row['reason']}".rstrip()
            )


@click.group("keys")
def keys() -> None:
    """The town's keys: without them no resident's data opens, so keep one copy, and one only."""


@keys.command("backup")
@city_options(keys=True)
@click.argument("file", type=_file)
def backup_keys(places: CityPlaces, file: Path) -> None:
    """Copy the keys to FILE, or bring FILE up to date: erased residents' keys go from it, too.

    It is wrapped by the master key (`town-key`), which is not in it: keep that one elsewhere. Never
    keep an older copy beside: with it and an old database somebody erased could be read again.
    """
    from agent.cityos.usecases.keys import backup_keys

    with office(places) as opened:
        gone = backup_keys(opened, file, now_ms())
    click.echo(f"{file} is up to date; {gone} destroyed keys went from it")


@keys.command("restore")
@city_options(keys=True)
@click.argument("file", type=_file)
def restore_keys(places: CityPlaces, file: Path) -> None:
    """Put the copy FILE in the place of lost keys; the master key has to be there already."""
    from agent.cityos.usecases.keys import restore_keys

    with office(places) as opened:
        restore_keys(opened, file)
    click.echo(f"{places.keys}: keys restored; next: kaopass city gallery publish")


@keys.command("forget")
@city_options(keys=True)
@click.argument("file", type=_file)
def forget_copy(places: CityPlaces, file: Path) -> None:
    """Say that the copy FILE was destroyed, so that receipts no longer name it."""
    from agent.cityos.usecases.keys import forget_copy

    with office(places) as opened:
        forget_copy(opened, file)
    click.echo(f"{file} is forgotten")


@keys.command("status")
@city_options(keys=True)
@json_option
def status(places: CityPlaces, as_json: bool) -> None:
    """How many residents have a key, and where copies are."""
    from agent.cityos.usecases.keys import keys_status

    found = keys_status(places)
    if as_json:
        told = {str(path): at_ms for path, at_ms in found.copies.items()}
        print_json({"residents": found.residents, "copies": told})
        return
    click.echo(f"{found.residents} residents' keys in {places.keys}")
    for path, at_ms in found.copies.items():
        click.echo(f"  copy {path}, of {time_text(at_ms)}")
