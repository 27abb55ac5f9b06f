"""``kaopass gallery``: who is enrolled on this device, and taking them out again."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from agent.cli.common import json_option, open_desk, operator, print_json, settings_option
from agent.cli.lazy import LazyGroup
from agent.usecases import residents

# From files of their own, imported only when called: enrolment needs the vision stages.
LAZY = {
    "enroll": "agent.cli.gallery.enroll",
    "rekey": "agent.cli.gallery.rekey",
    "subject": "agent.cli.gallery.subject",
    "calibrate": "agent.cli.gallery.calibrate",
}


@click.group("gallery", cls=LazyGroup, lazy=LAZY)
def command() -> None:
    """Who is known on this device: list, status, enroll, revoke, verify, rekey, subject, calibrate.

    The gallery is gallery.db in the state directory; it opens only with this device's key.
    """


@command.command("list")
@settings_option
@json_option
def list_people(settings_file: Path | None, as_json: bool) -> None:
    """List everybody enrolled, with their templates by model pack."""
    desk = open_desk(settings_file)
    with desk.gallery() as gallery:
        known = residents.known_people(gallery)
    people, left = known.people, known.to_enrol_again
    if as_json:
        print_json([asdict(person) for person in people])
        return
    for person in people:
        day = "-"
        if person.created_ms:
            day = str(datetime.fromtimestamp(person.created_ms / 1000, timezone.utc).date())
        templates = ", ".join(f"{count} of {pack}" for pack, count in person.templates.items())
        purposes = "+".join(person.purposes)
        source = "" if person.source == "device" else f"  {person.source}"
        click.echo(f"{person.id}  {person.nickname or '-'}  {purposes}  {day}  {templates}{source}")
    click.echo(f"{len(people)} enrolled" if people else "nobody is enrolled")
    if left:
        by_pack = ", ".join(f"{count} with {pack}" for pack, count in left.items())
        click.echo(f"to be enrolled again under {desk.settings.models.pack}: {by_pack}")


@command.command("status")
@settings_option
@json_option
def status(settings_file: Path | None, as_json: bool) -> None:
    """Tell whose gallery this is, which version is in force, and how long it may be used.

    The lease is that of a running agent's last word with the city: `kaopass status` has its alarms.
    """
    desk = open_desk(settings_file)
    with desk.gallery() as gallery:
        found = residents.standing(gallery)
    source, version = desk.settings.gallery.source, found.version
    facts: dict[str, Any] = {
        "source": source,
        "people": found.people,
        "provisional": list(found.provisional),
    }
    if source == "city":
        facts |= {
            "epoch": version.epoch if version else 0,
            "version": version.version if version else 0,
            "root": version.root if version else "",
            "count": version.count if version else 0,
            "expires_ms": version.expires_ms if version else 0,
            "content_key": found.keys.key.hex() if found.keys else "",
            "lease_hours_left": round(desk.lease_hours_left(), 1),
        }
    if as_json:
        print_json(facts)
        return
    if "expires_ms" in facts:
        facts["expires"] = _time(facts.pop("expires_ms"))
    for name, value in facts.items():
        told = ", ".join(value) or "nobody" if isinstance(value, list) else value
        click.echo(f"{name.replace('_', ' '):<17} {'-' if told == '' else told}")


def _time(wall_ms: int) -> str:
    """*wall_ms* (Unix time) for people; 0 is none."""
    if not wall_ms:
        return "-"
    return f"{datetime.fromtimestamp(wall_ms / 1000, timezone.utc):%Y-%m-%d %H:%M} UTC"


@command.command("revoke")
@click.argument("person_id", metavar="ID")
@settings_option
@json_option
def revoke(person_id: str, settings_file: Path | None, as_json: bool) -> None:
    """Take ID out of the gallery: their key and all their rows are overwritten.

    A running agent stops recognising them at its next look at the gallery. A resident of the
    city's gallery does not come back here before the city itself has let them go; everywhere else
    they are recognised until it does. The exit code is 1 when nobody of that id is enrolled.
    """
    desk = open_desk(settings_file)
    with desk.gallery() as gallery:
        residents.revoke(gallery, person_id, audit=desk.audit, actor=operator())
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
    with open_desk(settings_file).gallery() as gallery:
        checked = residents.verify(gallery)
    found, salvaged = checked.found, checked.salvaged
    if as_json:
        print_json({**asdict(found), "salvaged_from": str(salvaged.aside) if salvaged else None})
    else:
        click.echo(f"people     {found.people}, {found.damaged_people} of them damaged")
        click.echo(f"templates  {found.templates}, {found.damaged_templates} of them damaged")
        if salvaged:
            click.echo(
                f"the file was broken ({salvaged.reason}); it is kept as {salvaged.aside}\n"
                "compare this list with your records and enrol again who is missing"
            )
        if checked.sent_again:
            click.echo("what was damaged of the city's residents is sent again to a running agent")
        elif not found.sound:
            click.echo(
                "enrol again whoever is missing from: kaopass gallery list, or has too few"
                " templates in it"
            )
    if not checked.sound:
        raise click.exceptions.Exit(1)
