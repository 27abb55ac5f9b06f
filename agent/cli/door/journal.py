"""``kaopass journal``: what this device has recorded, for the eye and for export."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

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
from agent.protocol.events.kinds import BY_WORD
from agent.usecases import events
from agent.usecases.events import EventFilter

state_option = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["pending", "acked", "quarantined"]),
    help="Only events in this state; may be given several times.",
)
kind_option = click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(list(BY_WORD)),
    help="Only events of this kind; may be given several times.",
)
persons_option = click.option(
    "--show-persons", is_flag=True, help="Show pseudonyms, which are masked otherwise."
)


@click.group("journal")
def command() -> None:
    """Look at the events this device has recorded.

    Works beside a running agent without disturbing it; all but ``requeue`` change nothing.
    """


@command.command("list")
@settings_option
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Newest events."
)
@state_option
@kind_option
@persons_option
@json_option
def list_events(
    settings_file: Path | None,
    limit: int,
    states: tuple[str, ...],
    kinds: tuple[str, ...],
    show_persons: bool,
    as_json: bool,
) -> None:
    """Print the newest events, the newest last."""
    from agent.journal.export import as_record

    with open_desk(settings_file).journal() as journal:
        found = events.newest(journal, limit, EventFilter(states=states, kinds=kinds))
    records = [as_record(entry, show_persons=show_persons) for entry in found]
    if as_json:
        print_json(records)
        return
    if not records:
        click.echo("no such events" if states or kinds else "no events")
    for record in records:
        click.echo(_line(record))


@command.command()
@settings_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="CSV with a header, or one JSON object a line.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default="-",
    show_default=True,
    help="File to write (mode 0600, replaced whole), or - for standard output.",
)
@click.option("--first", type=click.IntRange(min=1), default=1, help="From this number on.")
@click.option("--last", type=click.IntRange(min=1), help="Up to this number.")
@state_option
@kind_option
@persons_option
def export(
    settings_file: Path | None,
    form: Literal["csv", "jsonl"],
    output: Path,
    first: int,
    last: int | None,
    states: tuple[str, ...],
    kinds: tuple[str, ...],
    show_persons: bool,
) -> None:
    """Write events as CSV or JSON lines.

    Place and stop are written in the clear: treat the file as personal data.
    """
    if last is not None and last < first:
        raise UsageError(f"--last {last} is before --first {first}")
    desk = open_desk(settings_file)
    wanted = EventFilter(first, last, states, kinds)
    with desk.journal() as journal, written(output) as out:
        count = events.export(
            *(journal, out, form, wanted),
            show_persons=show_persons,
            audit=desk.audit,
            actor=operator(),
        )
    if str(output) != "-":
        click.echo(f"{counted(count, 'event')} written to {output}", err=True)


@command.command()
@settings_option
@json_option
def stats(settings_file: Path | None, as_json: bool) -> None:
    """Count events by state, and say what was ever lost."""
    with open_desk(settings_file).journal() as journal:
        counted_now = events.counts(journal)
    found, gaps = counted_now.stats, counted_now.gaps
    if as_json:
        print_json({**asdict(found), "gap_records": [asdict(gap) for gap in gaps]})
        return
    kept = f"{found.first} to {found.last}" if found.first <= found.last else "none"
    click.echo(f"epoch        {found.epoch}")
    click.echo(f"kept         {kept} (last number {found.last})")
    click.echo(f"pending      {found.pending}")
    click.echo(f"acked        {found.acked}")
    click.echo(f"quarantined  {found.quarantined}")
    click.echo(f"lost         {found.lost} in {counted(found.gaps, 'gap')}")
    click.echo(f"on disk      {found.disk_bytes / 1e6:.1f} MB")
    for gap in gaps:
        click.echo(f"gap          {gap.epoch} {gap.first} to {gap.last}: {gap.reason}")


@command.command()
@settings_option
@click.option("--epoch", help="The journal's epoch meant; default: the present one.")
@click.option("--first", type=click.IntRange(min=1), default=1, help="From this number on.")
@click.option("--last", type=click.IntRange(min=1), help="Up to this number; default: the newest.")
def requeue(settings_file: Path | None, epoch: str | None, first: int, last: int | None) -> None:
    """Offer quarantined events to the city once more.

    A running agent sends them within a second. What the city still refuses comes back into
    quarantine; damaged events stay there.
    """
    desk = open_desk(settings_file)
    with desk.journal(read_only=False) as journal:
        count = events.requeue(journal, epoch, first, last, audit=desk.audit, actor=operator())
    click.echo(f"{counted(count, 'event')} offered to the city again")


def _line(record: dict[str, Any]) -> str:
    reckoned = record["corrected_ms"]
    wall_ms = record["wall_ms"] if reckoned is None else reckoned
    known = reckoned is not None or record["clock"] in ("gnss", "ntp")
    where = " ".join(str(record[name]) for name in ("place", "door", "stop") if record[name])
    parts = (
        f"{record['seq']:>8}",
        f"{record['state']:<11}",
        _time(wall_ms) + (" " if known else "?"),
        f"{record['kind'] or 'damaged':<9}",
        where,
        record["person"] or "",
        _said(record["detail"]),
        record["code"],
    )
    return "  ".join(part for part in parts if part).rstrip()


def _said(detail: Any) -> str:
    """What only an event of this kind has, in a line."""
    if not isinstance(detail, dict):
        return str(detail or "")
    told = ((name, value) for name, value in detail.items() if value is not None)
    return ", ".join(
        f"{name} {value if isinstance(value, (str, int)) else json.dumps(value)}"
        for name, value in told
    )


def _time(wall_ms: int) -> str:
    """Local time to the second; a clock can be too wrong for a calendar."""
    try:
        return f"{datetime.fromtimestamp(wall_ms / 1000, timezone.utc).astimezone():%F %T}"
    except (ValueError, OverflowError, OSError):
        return f"{wall_ms} ms"
