"""``kaopass bench match``: a search of the gallery beside one matrix-vector product of its size."""

from __future__ import annotations

from dataclasses import asdict

import click

from agent.bench.match import measure
from agent.cli.bench.notes import load_warning
from agent.cli.common import json_option, print_json


@click.command("match")
@click.option(
    "--million/--no-million", default=True, help="Also measure 1,000,000 people (2 GB of memory)."
)
@json_option
def command(million: bool, as_json: bool) -> None:
    """Time the search of the gallery for one face, beside one matrix-vector product."""
    found = measure(million=million)
    if as_json:
        print_json({"bench": "match", **asdict(found)})
        return
    click.echo(f"this board: gallery up to {found.gallery_up_to:,} templates")
    for search in found.searches:
        click.echo(
            f"  {search.people:>9,} people  {search.ms_search:8.2f} ms a search, "
            f"{search.ms_product:8.2f} ms the bare product, ratio {search.ratio:.2f} "
            f"(promised: at most 1.3), {search.megabytes} MB"
        )
    half = found.half
    click.echo(
        f"  {half.people:>9,} in float16  {half.ms_search:.2f} ms a search, {half.times_slower} "
        f"times as long for half the memory; answers the same in {half.same_answers:.0%}"
    )
    if found.skipped:
        click.echo(f"  {found.skipped}")
    click.echo(load_warning(found.board), nl=False)
