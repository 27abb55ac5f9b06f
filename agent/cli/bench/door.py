"""``kaopass bench door``: from the first usable frame of a face to the lamp, journal included."""

from __future__ import annotations

from dataclasses import asdict

import click

from agent.bench.board import this_board
from agent.bench.door import PROMISED_MS, Door, measure, run_here
from agent.cli.bench.notes import liveness_note, load_warning
from agent.cli.common import json_option, print_json


@click.command("door")
@click.option(
    "--cores", type=click.IntRange(1, 64), help="Only on that many cores, in this process."
)
@click.option(
    "--seconds",
    type=click.FloatRange(2, 60),
    default=37.0,
    show_default=True,
    help="Length of the scene; it is played in real time.",
)
@json_option
def command(cores: int | None, seconds: float, as_json: bool) -> None:
    """Time the door: from the first usable frame of a face to the lamp, on one core and on two."""
    if cores is not None:
        door, board = run_here(cores, seconds), this_board()
        if as_json:
            print_json(asdict(door))
            return
        doors: tuple[Door, ...] = (door,)
    else:
        found = measure(seconds)
        doors, board = found.doors, found.board
        if as_json:
            print_json({"bench": "door", **asdict(found)})
            return
    for door in doors:
        click.echo(
            f"on {door.cores} core(s): decision in {door.ms_median / 1000:.2f} s, 95% within "
            f"{door.ms_p95 / 1000:.2f} s (promised: {PROMISED_MS / 1000}), {door.decisions} people,"
            f" {door.dropped} of {door.frames} frames not looked at"
        )
    click.echo(liveness_note(judged=all(door.liveness for door in doors)), nl=False)
    click.echo(load_warning(board), nl=False)
