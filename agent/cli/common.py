"""What several commands share: the settings option, and printing for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

settings_option = click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with the settings; without it the defaults hold.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, written out at once."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))
