"""``kaopass gallery subject``: hand out, or erase, everything this device holds on a resident."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from agent.base.errors import UsageError
from agent.cli.common import (
    counted,
    json_option,
    open_desk,
    operator,
    print_json,
    settings_option,
    written,
)


@click.command("subject")
@click.argument("person_id", metavar="ID")
@click.option(
    "--export",
    "output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write all of it as JSON to FILE (mode 0600), or to standard output for -.",
)
@click.option("--erase", is_flag=True, help="Erase all of it and print a receipt.")
@settings_option
@json_option
def command(
    person_id: str, output: Path | None, erase: bool, settings_file: Path | None, as_json: bool
) -> None:
    """Export or erase everything this device holds on resident ID.

    That is their profile, templates and key in the gallery, and their events in the journal. With
    both options the export comes first. A running agent stops recognising them within seconds.
    What the city holds is erased there: kaopass city resident ID --erase.
    """
    from agent.usecases import subject

    if output is None and not erase:
        raise UsageError("say what to do: --export FILE, --erase, or both")
    desk = open_desk(settings_file)
    places, audit = desk.places(), desk.audit
    now_ms = time.time_ns() // 10**6
    if output is not None:
        held = subject.export(places, person_id, audit=audit, actor=operator(), now_ms=now_ms)
        with written(output) as out:
            json.dump(held, out, ensure_ascii=False, indent=1)
            out.write("\n")
        if str(output) != "-":
            events = counted(len(held["events"]), "event")
            click.echo(f"profile and {events} written to {output}", err=True)
    if not erase:
        return
    receipt = subject.erase(places, person_id, audit=audit, actor=operator(), now_ms=now_ms)
    if as_json:
        print_json(receipt)
        return
    click.echo(f"{person_id} is erased from {places.device}, receipt {receipt['receipt']}:")
    for item in receipt["erased"]:
        count = item.get("templates", item.get("events"))
        click.echo(f"  {item['file']}: {', '.join(item['what'])} ({count})")
    click.echo(f"  signed {receipt['mac']}")
