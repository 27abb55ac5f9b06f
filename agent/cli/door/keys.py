"""``kaopass keys``: where this device's key comes from, and another one in its place."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import click

from agent.cli.common import json_option, open_desk, operator, print_json, settings_option

STEPS = {
    "made": "a new device key is made beside the old one",
    "carried": "what must last is sealed under both",
    "gallery": "every person's key is wrapped by the new one",
    "journal": "every event is sealed under it",
    "replaced": "the old device key is gone",
    "tidied": "what lasts is under the new one alone",
}


@click.group("keys")
def command() -> None:
    """The key that everything personal on this device is encrypted under.

    docs/keys.md says what each place for it protects against, and what not.
    """


@command.command("show")
@settings_option
@json_option
def show(settings_file: Path | None, as_json: bool) -> None:
    """Say where the key comes from and tell its fingerprint; never the key itself."""
    from agent.usecases.keys import show as key_facts

    desk = open_desk(settings_file)
    file = desk.key_file
    found = key_facts(desk.ring, file, desk.gallery if desk.gallery_file.exists() else None)
    facts = {
        "source": desk.settings.keys.source,
        "protects_against": desk.key_driver.protects,
        "fingerprint": found.fingerprint,
        "file": str(file or os.environ.get("CREDENTIALS_DIRECTORY", "")),
        **({"permissions": found.permissions} if file else {}),
        "template_key": found.template_key,
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<17} {value}")


@command.command("rotate")
@settings_option
@json_option
def rotate(settings_file: Path | None, as_json: bool) -> None:
    """Change the device key: everything is under a new one afterwards, and nobody is lost.

    Stop the agent first. Pseudonyms and templates stay as they are (`kaopass gallery rekey`
    changes those). Old copies of the card no longer open. A power cut at any moment is made good
    by the next command, or by running this again. A systemd credential can be changed by root only.
    """
    from agent.usecases.rotation import rotate as change

    desk = open_desk(settings_file)
    begun = time.monotonic()

    def tell(step: str) -> None:
        if not as_json:
            click.echo(f"  {STEPS[step]}", err=True)

    source = desk.key_driver.changeable(desk.settings.keys_directory)
    done = change(source, desk.settings.state_directory, tell, actor=operator())
    seconds = round(time.monotonic() - begun, 2)
    if as_json:
        print_json({**asdict(done), "seconds": seconds})
        return
    click.echo(
        f"the device key is {done.fingerprint} now: {done.people} people and {done.events} events"
        f" are under it ({seconds} s)"
    )
