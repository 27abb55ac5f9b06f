"""``kaopass bench start``: from starting the program to ready, and the memory it takes then."""

from __future__ import annotations

from dataclasses import asdict

import click

from agent.bench.board import PEOPLE
from agent.bench.start import measure
from agent.cli.bench.notes import liveness_note, load_warning
from agent.cli.common import json_option, print_json


@click.command("start")
@click.option(
    "--people", type=click.IntRange(1), default=PEOPLE, show_default=True, help="People enrolled."
)
@json_option
def command(people: int, as_json: bool) -> None:
    """Time the start with a full gallery, of one and of three templates each, and its memory."""
    found = measure(people)
    if as_json:
        print_json({"bench": "start", **asdict(found)})
        return
    for start in found.starts:
        where = "read from disk" if start.cold else "in the page cache"
        click.echo(
            f"{start.people:,} people, {start.templates_each} template(s) each, {where}: ready in "
            f"{start.seconds:.1f} s, {start.cpu_seconds:.1f} s of it computing (promised: 5); "
            f"memory {start.resident_mb:.0f} MB, at most {start.peak_mb:.0f} MB (promised: 350)"
        )
    click.echo(liveness_note(judged=all(start.liveness for start in found.starts)), nl=False)
    click.echo(load_warning(found.board), nl=False)
