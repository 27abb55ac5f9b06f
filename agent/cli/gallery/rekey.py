"""``kaopass gallery rekey``: give every template another key, for instance after a leak."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import click

from agent.cli.common import counted, json_option, open_desk, operator, print_json, settings_option


@click.command("rekey")
@settings_option
@json_option
def command(settings_file: Path | None, as_json: bool) -> None:
    """Protect every template under a new template key, for this place's kind.

    Nobody need enrol again, and recognition stays what it was; but templates copied under the old
    key are worth nothing against the new ones. All in one transaction: a power cut leaves all
    under the old key or all under the new. A running agent takes it up within seconds.
    """
    from agent.usecases.residents import rekey

    desk = open_desk(settings_file)
    begun = time.monotonic()
    with (
        desk.gallery() as gallery,
        click.progressbar(length=1, label="templates", file=sys.stderr) as bar,
    ):

        def progress(done: int, of: int) -> None:
            bar.length = max(of, 1)
            bar.update(done - bar.pos)

        kind = desk.settings.place.kind
        done = rekey(gallery, kind, audit=desk.audit, actor=operator(), progress=progress)
    seconds = round(time.monotonic() - begun, 2)
    if as_json:
        print_json({**asdict(done), "seconds": seconds})
        return
    click.echo(
        f"{counted(done.templates, 'template')} under template key {done.name} now ({seconds} s)"
    )
