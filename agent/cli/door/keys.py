"""``kaopass keys``: where this device's key comes from, and another one in its place."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import GalleryError
from agent.cli.common import (
    audit_log,
    json_option,
    open_ring,
    operator,
    print_json,
    settings_option,
)
from agent.settings.model import Settings, load

if TYPE_CHECKING:
    from agent.base.drivers import KeySourceDriver
    from agent.keys.ring import KeyRing

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
    settings = load(settings_file)
    ring = open_ring(settings)
    facts: dict[str, Any] = {
        "source": settings.keys.source,
        "protects_against": _driver(settings).protects,
        "fingerprint": ring.fingerprint(),
        **_file_facts(settings),
        "template_key": _template_key(settings, ring),
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

    settings = load(settings_file)
    begun = time.monotonic()

    def tell(step: str) -> None:
        if not as_json:
            click.echo(f"  {STEPS[step]}", err=True)

    done = change(
        _driver(settings).changeable(settings.keys_directory), settings.state_directory, tell
    )
    seconds = round(time.monotonic() - begun, 2)
    if settings.keys.source != "credential":
        # Root sees a credential's file, but only the unit is given the credential itself.
        audit_log(settings, open_ring(settings)).append(
            "keys.rotated", actor=operator(), people=done.people, events=done.events
        )
    if as_json:
        facts = {"people": done.people, "events": done.events, "fingerprint": done.fingerprint}
        print_json({**facts, "seconds": seconds})
        return
    click.echo(
        f"the device key is {done.fingerprint} now: {done.people} people and {done.events} events"
        f" are under it ({seconds} s)"
    )


def _driver(settings: Settings) -> KeySourceDriver:
    from agent.settings.drivers import KEY_SOURCES

    return KEY_SOURCES.driver(settings.keys.source)


def _file_facts(settings: Settings) -> dict[str, str]:
    """Path, owner and mode of what lies on the disk; a credential is systemd's affair."""
    name = _driver(settings).file
    if not name:
        return {"file": os.environ.get("CREDENTIALS_DIRECTORY", "")}
    path = settings.keys_directory / name
    status = path.stat()
    return {
        "file": str(path),
        "permissions": f"{stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}",
    }


def _template_key(settings: Settings, ring: KeyRing) -> str:
    from agent.gallery.gallery import Gallery

    path = settings.state_directory / "gallery.db"
    if not path.exists():
        return "none yet"
    try:
        with Gallery(path, ring, settings.models.pack) as gallery:
            return gallery.protection.name
    except GalleryError as error:
        return str(error)
