"""``kaopass settings``: the settings in force, as TOML, secrets masked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agent.cli.common import json_option, print_json, settings_option
from agent.settings import Settings, load


@click.command("settings")
@settings_option
@click.option("--explain", is_flag=True, help="Say what each setting is for.")
@json_option
def command(settings_file: Path | None, explain: bool, as_json: bool) -> None:
    """Check the settings and print the ones in force.

    Every mistake in the file is listed at once; the exit code is then 2.
    """
    settings = load(settings_file)
    values = settings.model_dump(mode="json")
    if as_json:
        print_json(values)
        return
    click.echo(_as_toml(settings, values, explain))


def _as_toml(settings: Settings, values: dict[str, Any], explain: bool) -> str:
    lines = []
    for section, entries in values.items():
        lines.append(f"[{section}]")
        fields = type(getattr(settings, section)).model_fields
        for key, value in entries.items():
            # TOML has no null: an unset path is shown as a comment.
            line = f"# {key} is not set" if value is None else f"{key} = {_literal(value)}"
            note = fields[key].description or ""
            lines.append(f"{line}  # {note}" if explain and note else line)
        lines.append("")
    return "\n".join(lines).rstrip()


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
