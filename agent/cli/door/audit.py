"""``kaopass audit``: look at the log of who did what, and check that nobody changed it."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

import click

from agent.base.errors import AuditError, UsageError
from agent.cli.common import counted, json_option, print_json, settings_option

city_option = click.option(
    "--city",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIRECTORY",
    help="The city's log, in the directory of its authority, instead of this device's.",
)


@click.group("audit")
def command() -> None:
    """The log of who enrolled, changed, sent, erased or exported."""


@command.command("verify")
@settings_option
@city_option
@click.option("--head", default="", metavar="HASH", help="A head noted earlier must be in it.")
@json_option
def verify(settings_file: Path | None, city: Path | None, head: str, as_json: bool) -> None:
    """Check every entry against the one before; exit code 1 when the log was changed.

    Note the head it prints somewhere else (on paper will do): with it, `--head` also proves later
    that the end was not cut off.
    """
    from agent.base.audit import verify as check

    noted = head.strip().lower()
    if head and not re.fullmatch("[0-9a-f]{64}", noted):
        raise UsageError(f"--head {head}: must be 64 hexadecimal digits, as audit verify prints it")
    path = _path(settings_file, city)
    if not path.exists():
        raise AuditError(
            f"there is no audit log at {path}: nothing was noted here yet, or it was taken away"
        )
    found = check(path, noted)
    if as_json:
        print_json({"entries": found.entries, "head": found.head, "torn_bytes": found.torn_bytes})
        return
    entries = "1 entry" if found.entries == 1 else f"{found.entries} entries"
    click.echo(f"{entries}, unbroken\nhead {found.head}")
    if found.torn_bytes:
        click.echo(
            f"one more was cut off while it was written ({counted(found.torn_bytes, 'byte')})"
        )


@command.command("list")
@settings_option
@city_option
@click.option("--id", "identifier", default="", help="Only what this person did or had done.")
@json_option
def list_entries(
    settings_file: Path | None, city: Path | None, identifier: str, as_json: bool
) -> None:
    """List the entries, oldest first; people appear as references only."""
    from agent.base.audit import AuditLog, entries

    path = _path(settings_file, city)
    wanted = ""
    if identifier:
        from agent.protocol.galleries.records import canonical_id

        wanted = AuditLog(path, _key(settings_file, city)).reference(canonical_id(identifier))
    found = False
    for entry in entries(path):
        if wanted not in ("", entry.actor, entry.subject):
            continue
        found = True
        if as_json:
            print_json(
                {
                    "seq": entry.seq,
                    "wall_ms": entry.wall_ms,
                    "action": entry.action,
                    "actor": entry.actor,
                    "subject": entry.subject,
                    "facts": entry.facts,
                }
            )
            continue
        facts = ", ".join(f"{name} {value}" for name, value in entry.facts.items())
        people = f"by {entry.actor[:8] or '-':<8}  on {entry.subject[:8] or '-':<8}"
        at = datetime.fromtimestamp(entry.wall_ms / 1000, tz=timezone.utc)
        line = f"{entry.seq:>6}  {at:%Y-%m-%dT%H:%M:%SZ}  {entry.action:<22}  {people}  {facts}"
        click.echo(line.rstrip())
    if not (found or as_json):
        click.echo("no such entries" if wanted else "no entries")


def _path(settings_file: Path | None, city: Path | None) -> Path:
    """Raises UsageError for a city's directory without a log."""
    if city is not None:
        path = city / "audit.jsonl"
        if not path.exists():
            raise UsageError(f"--city {city}: there is no audit.jsonl in it")
        return path
    from agent.settings.model import load

    return load(settings_file).audit_file


def _key(settings_file: Path | None, city: Path | None) -> bytes:
    if city is not None:
        from agent.cityos.keys.audit import audit_key

        return audit_key(city)
    from agent.settings.model import load
    from agent.wiring.desk import open_ring

    return open_ring(load(settings_file)).audit_key()
