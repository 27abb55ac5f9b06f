"""``kaopass lab sync``: how fast a backlog reaches the city's commit and comes back acked."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from agent.cli.common import json_option, print_json
from agent.cli.lab.common import folder_option, need_lab, shown_progress
from agent.lab.disk import fresh_folder, quick_folder
from agent.lab.sync import GOAL_PER_SECOND, bare_inserts, fill, measure


@click.command("sync")
@folder_option
@click.option(
    "--events",
    type=click.IntRange(min=1_000),
    default=20_000,
    show_default=True,
    help="How large the backlog is.",
)
@click.option(
    "--database",
    "databases",
    multiple=True,
    metavar="URL",
    help="Drain to this database too, such as postgresql://host/scratch; the events stay in it.",
)
@json_option
def command(folder: Path, events: int, databases: tuple[str, ...], as_json: bool) -> None:
    """How fast a backlog reaches the city's commit and comes back acknowledged.

    Needs Mosquitto and the city side (pip install 'kaopass[city]').
    """
    need_lab()
    progress = shown_progress()
    key = os.urandom(32)
    drains = []
    with fresh_folder(folder) as root:
        # How the journal was filled does not matter here.
        with quick_folder(3 * 512 * events, root) as quick:
            backlog = quick / "journal.db"
            fill(backlog, key, events, progress)
            for number, database in enumerate((str(root / "city.db"), *databases)):
                own = root / str(number)
                own.mkdir()
                drains.append(measure(own, database, backlog, key, progress))
        bare = bare_inserts(root, events, progress)
    progress("", 1.0)
    if as_json:
        print_json(
            {
                "bench": "sync",
                "drains": [asdict(drain) for drain in drains],
                "bare_sqlite_per_second": round(bare, 1),
                "goal_per_second": GOAL_PER_SECOND,
            }
        )
        return
    click.echo(f"{events:,} events from the journal over TLS to the commit and acknowledged")
    click.echo(f"{'':<14}{'a second':>10}{'bytes each':>12}{'commit to ack':>16}{'99%':>12}")
    for one in drains:
        click.echo(
            f"{one.database:<14}{one.per_second:>10,.0f}{one.bytes_per_event:>12.0f}"
            f"{one.ack_p50_ms:>13.0f} ms{one.ack_p99_ms:>9.0f} ms"
        )
        spent = ", ".join(f"{name} {us:.0f} µs" for name, us in one.cpu_us_per_event.items())
        click.echo(f"{'':<14}processor time an event: {spent}")
    click.echo(f"{'bare SQLite':<14}{bare:>10,.0f}")
    met = all(one.per_second >= GOAL_PER_SECOND for one in drains)
    click.echo(f"{'enough' if met else 'TOO SLOW'}: the goal is {GOAL_PER_SECOND:,.0f} a second")
