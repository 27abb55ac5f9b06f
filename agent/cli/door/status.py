"""``kaopass status``: how the running agent is, alarms first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agent.base.errors import StatusError
from agent.cli.common import json_option, print_json, settings_option
from agent.device.statussocket import ask
from agent.settings import model as settings_module

# Where faces are lost on the way to a decision: prefix of the counters, and what they say.
REJECTS = {
    "faces": "views of faces not used, by reason (share of all views)",
    "rejected": "people who left without a decision, by reason",
}


@click.command()
@settings_option
@click.option(
    "--socket",
    "socket_file",
    type=click.Path(path_type=Path),
    help="The agent's socket, if it is not where the settings say.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context, settings_file: Path | None, socket_file: Path | None, as_json: bool
) -> None:
    """Ask the running agent how it is.

    Exit code 0 when all is well; 1 when there are alarms or no agent is running.
    """
    path = socket_file or settings_module.load(settings_file).socket_path
    try:
        health = ask(path)
    except StatusError as error:
        if as_json:
            print_json({"running": False, "error": str(error)})
            ctx.exit(1)
        raise
    if as_json:
        print_json({"running": True, **health})
    else:
        _print_table(health)
    ctx.exit(1 if health.get("alarms") else 0)


def _print_table(health: dict[str, Any]) -> None:
    alarms = health.get("alarms", [])
    for alarm in alarms:
        click.secho(f"ALARM  {alarm}", fg="red", bold=True)
    if alarms:
        click.echo()
    rows = [("state", str(health.get("state", "?")))]
    rows += [(name, _said(value)) for name, value in health.get("detail", {}).items()]
    counters = health.get("counters", {})
    tables = {prefix: _parts(counters, prefix) for prefix in REJECTS}
    told = {f"{prefix}_{name}" for prefix, parts in tables.items() for name in parts}
    rows += [(name, str(value)) for name, value in counters.items() if name not in told]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name.replace('_', ' '):<{width}}  {value}")
    for prefix, title in REJECTS.items():
        _print_rejects(title, tables[prefix], counters.get(prefix, 0))
    if not alarms:
        click.echo()
        click.secho("no alarms", fg="green")


def _parts(counters: dict[str, int], prefix: str) -> dict[str, int]:
    """The counters ``<prefix>_<reason>``, by reason, the largest first."""
    start = f"{prefix}_"
    kept = {n.removeprefix(start): c for n, c in counters.items() if n.startswith(start)}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


def _print_rejects(title: str, parts: dict[str, int], total: int) -> None:
    if not parts:
        return
    click.echo(f"\n{title}")
    total = total or sum(parts.values())
    for name, count in parts.items():
        click.echo(f"  {name.replace('_', ' '):<24}{count:>9}  {count / total:>4.0%}")


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(part)}" for name, part in value.items()) or "-"
    if value in ("", None, [], ()):
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
