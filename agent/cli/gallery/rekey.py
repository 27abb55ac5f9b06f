"""``kaopass gallery rekey``: give every template another key, for instance after a leak."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from agent.cli.common import (
    audit_log,
    counted,
    json_option,
    open_ring,
    operator,
    print_json,
    settings_option,
)
from agent.cli.gallery.group import existing
from agent.settings.model import load


@click.command("rekey")
@settings_option
@json_option
def command(settings_file: Path | None, as_json: bool) -> None:
    """Protect every template under a new template key, for this place's kind.

    Nobody need enrol again, and recognition stays what it was; but templates copied under the old
    key are worth nothing against the new ones. All in one transaction: a power cut leaves all
    under the old key or all under the new. A running agent takes it up within seconds.
    """
    settings = load(settings_file)
    begun = time.monotonic()
    with existing(settings) as gallery:
        log = audit_log(settings, open_ring(settings))
        with click.progressbar(length=1, label="templates", file=sys.stderr) as bar:

            def progress(done: int, of: int) -> None:
                bar.length = max(of, 1)
                bar.update(done - bar.pos)

            changed = gallery.rekey(settings.place.kind, progress)
        protection = gallery.protection
        log.append(
            "gallery.rekeyed",
            actor=operator(),
            domain=protection.domain,
            version=protection.version,
            templates=changed,
        )
    result = {
        "templates": changed,
        "domain": protection.domain,
        "version": protection.version,
        "seconds": round(time.monotonic() - begun, 2),
    }
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{counted(changed, 'template')} under template key {protection.name} now"
        f" ({result['seconds']} s)"
    )
