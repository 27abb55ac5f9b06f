"""``kaopass city keys|enrolments``: one copy of the town's keys, and what devices have enrolled."""

from __future__ import annotations

from pathlib import Path

import click

from agent.base.errors import CityError
from agent.cli.city.common import ca_option, now_ms, office
from agent.cli.city.town import keys_option, open_keys
from agent.cli.city.upkeep import database_option, time_text
from agent.cli.common import json_option, print_json

_file = click.Path(path_type=Path, dir_okay=False)


@click.group("enrolments")
def enrolments() -> None:
    """Residents who were enrolled at a device: taken or refused by the city."""


@enrolments.command("list")
@database_option
@click.option("--state", type=click.Choice(["new", "taken", "refused"]), help="Only these.")
@json_option
def list_enrolments(database: str, state: str | None, as_json: bool) -> None:
    """Enrolments that came from devices, and why some were refused; a running city side settles."""
    from sqlalchemy import select

    from agent.cityos.db.database import open_engine
    from agent.cityos.db.schema import ENROLMENT

    engine = open_engine(database, create=False)
    try:
        wanted = select(
            *(ENROLMENT.c.device, ENROLMENT.c.epoch, ENROLMENT.c.seq),
            *(ENROLMENT.c.state, ENROLMENT.c.reason, ENROLMENT.c.received_ms),
        ).order_by(ENROLMENT.c.received_ms)
        if state is not None:
            wanted = wanted.where(ENROLMENT.c.state == state)
        with engine.connect() as db:
            rows = [dict(row._mapping) for row in db.execute(wanted).all()]
    finally:
        engine.dispose()
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
@ca_option
@keys_option
@click.argument("file", type=_file)
def backup_keys(ca_directory: Path, keys_directory: Path | None, file: Path) -> None:
    """Copy the keys to FILE, or bring FILE up to date: erased residents' keys go from it, too.

    It is wrapped by the master key (`town-key`), which is not in it: keep that one elsewhere. Never
    keep an older copy beside: with it and an old database somebody erased could be read again.
    """
    from agent.cityos.keys.keybackup import backup

    with office(ca_directory) as opened, open_keys(ca_directory, keys_directory) as found:
        opened.noting("keys.copied")()
        gone = backup(found, file, now_ms())
    click.echo(f"{file} is up to date; {gone} destroyed keys went from it")


@keys.command("restore")
@ca_option
@keys_option
@click.argument("file", type=_file)
def restore_keys(ca_directory: Path, keys_directory: Path | None, file: Path) -> None:
    """Put the copy FILE in the place of lost keys; the master key has to be there already."""
    from agent.cityos.keys.keybackup import restore

    directory = keys_directory or ca_directory / "keys"
    with office(ca_directory) as opened:
        opened.noting("keys.restored")()
        restore(file, directory)
    with open_keys(ca_directory, keys_directory):
        click.echo(f"{directory}: keys restored; next: kaopass city gallery publish")


@keys.command("forget")
@ca_option
@keys_option
@click.argument("file", type=_file)
def forget_copy(ca_directory: Path, keys_directory: Path | None, file: Path) -> None:
    """Say that the copy FILE was destroyed, so that receipts no longer name it."""
    with office(ca_directory) as opened, open_keys(ca_directory, keys_directory) as found:
        if not found.forget_copy(file.absolute()):
            raise CityError(f"{file.absolute()} is no known copy: see kaopass city keys status")
        opened.noting("keys.copy_destroyed")()
    click.echo(f"{file} is forgotten")


@keys.command("status")
@ca_option
@keys_option
@json_option
def keys_status(ca_directory: Path, keys_directory: Path | None, as_json: bool) -> None:
    """How many residents have a key, and where copies are."""
    with open_keys(ca_directory, keys_directory) as found:
        count, copies = len(found.residents()), found.copies()
    if as_json:
        told = {str(path): at_ms for path, at_ms in copies.items()}
        print_json({"residents": count, "copies": told})
        return
    click.echo(f"{count} residents' keys in {keys_directory or ca_directory / 'keys'}")
    for path, at_ms in copies.items():
        click.echo(f"  copy {path}, of {time_text(at_ms)}")
