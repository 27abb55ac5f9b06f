"""``kaopass settings``: the settings in force, as TOML, secrets masked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from agent.cli.common import json_option, print_json, settings_option
from agent.settings.model import Loaded, load_with_city


@click.command("settings")
@settings_option
@click.option("--explain", is_flag=True, help="Say what each setting is for.")
@json_option
def command(settings_file: Path | None, explain: bool, as_json: bool) -> None:
    """Check the settings and print the ones in force; those the city set are marked.

    Every mistake in the file is listed at once; the exit code is then 2.
    """
    loaded = load_with_city(settings_file)
    values = loaded.settings.model_dump(mode="json")
    if loaded.city_problem:
        click.echo(f"the city's settings are not in force: {loaded.city_problem}", err=True)
    if as_json:
        print_json(values)
        return
    click.echo(_as_toml(loaded, values, explain))


def _as_toml(loaded: Loaded, values: dict[str, Any], explain: bool) -> str:
    settings, city = loaded.settings, loaded.city
    lines = []
    for section, entries in values.items():
        lines.append(f"[{section}]")
        fields = type(getattr(settings, section)).model_fields
        for key, value in entries.items():
            # TOML has no null: an unset path is shown as a comment.
            line = f"# {key} is not set" if value is None else f"{key} = {_literal(value)}"
            notes = [fields[key].description or ""] if explain else []
            if key in city.settings.get(section, {}):
                trial = ", on trial" if city.on_trial else ""
                notes.append(f"from the city, version {city.version}{trial}")
            note = "; ".join(filter(None, notes))
            lines.append(f"{line}  # {note}" if note else line)
        lines.append("")
    return "\n".join(lines).rstrip()


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
