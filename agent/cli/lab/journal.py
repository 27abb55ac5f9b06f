"""``kaopass lab journal``: durable appends, and what a month without network takes on the card."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from agent.cli.common import json_option, print_json
from agent.cli.lab.common import folder_option, need_lab, shown_progress
from agent.lab.disk import fresh_folder, quick_folder
from agent.lab.journal import (
    GOAL_P99_MS,
    GOAL_PER_SECOND,
    TURNS,
    compare_appends,
    measure_size,
)


@click.command("journal")
@folder_option
@click.option(
    "--events",
    type=click.IntRange(min=TURNS),
    default=2_000,
    show_default=True,
    help="How many to append.",
)
@click.option(
    "--days",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="How long there is no network.",
)
@click.option(
    "--per-day",
    type=click.IntRange(min=1),
    default=5_000,
    show_default=True,
    help="Events in each of these days.",
)
@json_option
def command(folder: Path, events: int, days: int, per_day: int, as_json: bool) -> None:
    """How fast events are safe on the disk, and what a month without network takes of it."""
    need_lab()
    progress = shown_progress()
    with fresh_folder(folder) as fresh:
        ours, bare = compare_appends(fresh, events, progress)
    # How large the files get does not depend on the disk: in memory it is known within a minute.
    with quick_folder(3 * 512 * days * per_day, folder) as fresh:
        size = measure_size(fresh, days * per_day, progress)
    progress("", 1.0)
    if as_json:
        print_json(
            {
                "bench": "journal",
                "events": events,
                "journal": asdict(ours),
                "bare_sqlite": asdict(bare),
                "ratio": {
                    "per_second": round(ours.per_second / bare.per_second, 3),
                    "p50": round(ours.p50_ms / bare.p50_ms, 3),
                    "p99": round(ours.p99_ms / bare.p99_ms, 3),
                },
                "offline": {
                    "days": days,
                    **asdict(size),
                    "bytes_per_event": round(size.bytes_per_event, 1),
                },
            }
        )
        return
    click.echo(f"{events:,} events, each synced to the disk of {folder.absolute()}")
    click.echo(f"{'':<16}{'a second':>10}{'median':>12}{'99%':>12}")
    for name, one in (("journal", ours), ("bare SQLite", bare)):
        click.echo(f"{name:<16}{one.per_second:>10,.0f}{one.p50_ms:>9.2f} ms{one.p99_ms:>9.2f} ms")
    click.echo(
        f"{'journal / bare':<16}{ours.per_second / bare.per_second:>10.2f}"
        f"{ours.p50_ms / bare.p50_ms:>12.2f}{ours.p99_ms / bare.p99_ms:>12.2f}"
    )
    met = ours.per_second >= GOAL_PER_SECOND and ours.p99_ms <= GOAL_P99_MS
    click.echo(
        f"{'enough' if met else 'TOO SLOW'}: a door needs {GOAL_PER_SECOND:.0f} a second and"
        f" {GOAL_P99_MS:.0f} ms at 99%"
    )
    click.echo(
        f"{days} days offline at {per_day:,} events a day: {size.disk_bytes / 2**20:,.1f} MB of"
        f" {size.limit_bytes / 2**20:,.0f} MB ({size.bytes_per_event:.0f} bytes an event)"
    )
