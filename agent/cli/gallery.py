"""``kaopass gallery``: who is enrolled on this device, and taking them out again."""

from __future__ import annotations

from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path

import click

from agent.cli.common import json_option, open_ring, print_json, settings_option
from agent.errors import GalleryError, UsageError
from agent.identity.gallery import Gallery
from agent.settings import Settings, load

# From files of their own, imported only when called: enrolment needs the vision stages.
LAZY = {
    "enroll": "agent.cli.enroll",
    "rekey": "agent.cli.rekey",
    "subject": "agent.cli.subject",
    "calibrate": "agent.cli.calibrate",
}


class GalleryGroup(click.Group):
    """The commands of this file, and those of ``LAZY``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *LAZY]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LAZY:
            found = import_module(LAZY[cmd_name]).command
            assert isinstance(found, click.Command)  # noqa: S101 - a broken table is a defect
            return found
        return super().get_command(ctx, cmd_name)


@click.group("gallery", cls=GalleryGroup)
def command() -> None:
    """Who is enrolled on this device: list, enroll, revoke, verify, rekey, subject, calibrate.

    The gallery is gallery.db in the state directory; it opens only with this device's key.
    """


@command.command("list")
@settings_option
@json_option
def list_people(settings_file: Path | None, as_json: bool) -> None:
    """List everybody enrolled, with their templates by model pack."""
    settings = load(settings_file)
    with existing(settings) as gallery:
        people, left = gallery.people(), gallery.to_enrol_again()
    if as_json:
        print_json(
            [
                {
                    "id": person.id,
                    "nickname": person.nickname,
                    "purposes": person.purposes,
                    "created_ms": person.created_ms,
                    "templates": person.templates,
                }
                for person in people
            ]
        )
        return
    for person in people:
        day = datetime.fromtimestamp(person.created_ms / 1000, timezone.utc).date()
        templates = ", ".join(f"{count} of {pack}" for pack, count in person.templates.items())
        purposes = "+".join(person.purposes)
        click.echo(f"{person.id}  {person.nickname or '-'}  {purposes}  {day}  {templates}")
    click.echo(f"{len(people)} enrolled")
    if left:
        by_pack = ", ".join(f"{count} with {pack}" for pack, count in left.items())
        click.echo(f"to be enrolled again under {settings.models.pack}: {by_pack}")


@command.command("revoke")
@click.argument("person_id", metavar="ID")
@settings_option
@json_option
def revoke(person_id: str, settings_file: Path | None, as_json: bool) -> None:
    """Take ID out of the gallery: their key and all their rows are overwritten.

    A running agent stops recognising them at its next look at the gallery. The exit code is 2
    when nobody of that id is enrolled.
    """
    with existing(load(settings_file)) as gallery:
        revoked = gallery.revoke(person_id)
    if not revoked:
        raise UsageError(f"nobody is enrolled as {person_id!r}; see: kaopass gallery list")
    if as_json:
        print_json({"revoked": person_id})
        return
    click.echo(f"{person_id} is revoked: key, profile and templates are overwritten")


@command.command("verify")
@settings_option
@json_option
def verify(settings_file: Path | None, as_json: bool) -> None:
    """Open every row, and say how many do not open and what to do about it.

    A file that is broken as a whole is set aside, never deleted, and what can be read is kept.
    The exit code is 1 when anything was damaged.
    """
    with existing(load(settings_file)) as gallery:
        found = gallery.verify()
        salvaged = gallery.salvaged
    if as_json:
        print_json(
            {
                "people": found.people,
                "damaged_people": found.damaged_people,
                "templates": found.templates,
                "damaged_templates": found.damaged_templates,
                "salvaged_from": str(salvaged.aside) if salvaged else None,
            }
        )
    else:
        click.echo(f"people     {found.people}, {found.damaged_people} of them damaged")
        click.echo(f"templates  {found.templates}, {found.damaged_templates} of them damaged")
        if salvaged:
            click.echo(
                f"the file was broken ({salvaged.reason}); it is kept as {salvaged.aside}\n"
                "compare this list with your records and enrol again who is missing"
            )
        if not found.sound:
            click.echo(
                "enrol again whoever is missing from: kaopass gallery list, or has too few"
                " templates in it"
            )
    if salvaged or not found.sound:
        raise click.exceptions.Exit(1)


def existing(settings: Settings) -> Gallery:
    """The gallery of the device that *settings* describe. Raises GalleryError if there is none."""
    path = settings.state_directory / "gallery.db"
    if not path.exists():
        raise GalleryError(
            f"there is no gallery at {path}; enrol somebody with kaopass gallery enroll, or name"
            " this device's settings with --settings"
        )
    return Gallery(path, open_ring(settings), settings.models.pack)
