"""``kaopass models``: which model packs there are, installing them, checking them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agent.base.errors import ModelError
from agent.cli.common import json_option, print_json, settings_option
from agent.settings.model import load
from agent.usecases import packs


@click.group("models")
def command() -> None:
    """List, install and verify model packs."""


@command.command("list")
@settings_option
@json_option
def list_packs(settings_file: Path | None, as_json: bool) -> None:
    """List the packs this version knows, their licences, and which are installed."""
    settings = load(settings_file)
    rows = [_described(found) for found in packs.pack_states(settings.models_directory)]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        chosen = "*" if row["name"] == settings.models.pack else " "
        click.echo(f"{chosen} {row['name']:12} {row['licence']:10} {row['state']}")
        click.echo(f"    {row['title']}; {row['bytes'] / 1e6:.1f} MB; {row['licence_note']}")
        if row["loss"]:
            click.echo(f"    {row['loss']}")
        if row["detail"]:
            click.echo(f"    {row['detail']}")


@command.command("install")
@click.argument("name")
@click.option(
    "--from",
    "given",
    type=click.Path(path_type=Path, exists=True),
    help="Take the files from this folder or .zip, .whl, .tar.gz, .tgz archive.",
)
@click.option(
    "--accept-licence",
    type=click.Choice(["research"]),
    help='Accept a licence for non-commercial research, like models.licence = "research".',
)
@settings_option
@json_option
def install_pack(
    name: str,
    given: Path | None,
    accept_licence: str | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Install the pack NAME. Does nothing when it is installed and right."""
    settings = load(settings_file)
    bar = _Bar(hidden=as_json)
    try:
        pack, done = packs.install_pack(
            name,
            settings.models_directory,
            research="research" in (accept_licence, settings.models.licence),
            given=given,
            progress=bar.report,
        )
    finally:
        bar.finish()
    if as_json:
        print_json(
            {
                "name": name,
                "folder": str(done.folder),
                "installed": list(done.files),
                "source": done.source,
            }
        )
    elif done.files:
        click.echo(f"{name}: installed {', '.join(done.files)} in {done.folder}")
        click.echo(f"  from {done.source}; every sha256 is right")
    else:
        click.echo(f"{name}: already installed in {done.folder}; every sha256 is right")
    if pack.research_only and settings.models.licence != "research":
        click.echo('To run it, also set models.licence = "research" in the settings.', err=True)


@command.command("verify")
@click.argument("name", required=False)
@settings_option
@json_option
def verify_packs(name: str | None, settings_file: Path | None, as_json: bool) -> None:
    """Check every file of the pack NAME, or of all installed packs, against its sha256.

    The exit code is 1 when a file is missing, truncated or altered, or nothing is installed.
    """
    settings = load(settings_file)
    found = packs.pack_states(settings.models_directory, name)
    rows = [_described(each) for each in found if name or each.state != "not installed"]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['name']}: {row['detail'] or row['state']}")
    if not rows:
        raise ModelError(
            "no model pack is installed; run: kaopass models install NAME"
            f" (there are: {', '.join(each.pack.name for each in found)})"
        )
    wrong = [row["name"] for row in rows if not row["installed"]]
    if wrong:
        raise ModelError(f"not in order: {', '.join(wrong)}")


def _described(found: packs.PackState) -> dict[str, Any]:
    """One pack as ``--json`` shows it; ``detail`` says what is wrong with its files."""
    pack = found.pack
    return {
        "name": pack.name,
        "title": pack.title,
        "licence": pack.licence,
        "licence_note": pack.licence_note,
        "bytes": pack.bytes,
        "installed": found.installed,
        "state": found.state,
        "detail": found.damage,
        "loss": pack.loss,
        "files": [file.name for file in pack.files],
        "sources": [str(source) for source in pack.sources],
    }


class _Bar:
    """Progress on standard error: a bar on a terminal, one line for each thing elsewhere."""

    def __init__(self, *, hidden: bool) -> None:
        self._hidden = hidden
        self._what = ""
        self._bar: Any = None  # click does not export the type

    def report(self, what: str, done_bytes: int, all_bytes: int) -> None:
        if self._hidden:
            return
        if what != self._what:
            self.finish()
            self._what = what
            if all_bytes and sys.stderr.isatty():
                self._bar = click.progressbar(length=all_bytes, label=what, file=sys.stderr)
            else:
                click.echo(f"{what} ...", err=True)
        if self._bar is not None:
            self._bar.update(done_bytes - self._bar.pos)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None
