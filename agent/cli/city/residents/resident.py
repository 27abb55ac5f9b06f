"""``kaopass city resident``: the town's residents: enrol, list, show, hand out, erase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError, UsageError
from agent.cli.city.common import ca_option, now_ms
from agent.cli.city.residents.enrol import add, import_directory
from agent.cli.city.town import GALLERIES, Town, keys_option, town
from agent.cli.city.upkeep import database_option, time_text
from agent.cli.common import counted, json_option, print_json, written

if TYPE_CHECKING:
    from agent.cityos.residents.profiles import Resident


class ResidentGroup(click.Group):
    """Its own commands; any other word is a resident's ID: ``resident ID --erase``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["subject", *args]
        return super().resolve_command(ctx, args)


@click.group("resident", cls=ResidentGroup)
def resident() -> None:
    """The town's residents. `resident ID --export|--erase` is short for `resident subject ID`."""


@resident.command("list")
@ca_option
@keys_option
@database_option
@json_option
def list_residents(
    ca_directory: Path, keys_directory: Path | None, database: str, as_json: bool
) -> None:
    """List residents: what they consent to now, and how many templates there are."""
    now = now_ms()
    with town(ca_directory, keys_directory, database) as opened:
        found = sorted(opened.residents.all(), key=lambda each: each.profile.id)
        opened.office.noting("residents.listed", residents=len(found))()
    if not found and not as_json:
        click.echo("nobody is enrolled")
    for each in found:
        standing = _standing(each, now)
        if as_json:
            templates = dict(each.templates)
            print_json({"id": each.profile.id, "consents": standing, "templates": templates})
            continue
        count = sum(each.templates.values())
        said = ", ".join(standing) or "no consent stands"
        click.echo(f"{each.profile.id:<20} {counted(count, 'template'):>12}  {said}")


@resident.command("show")
@ca_option
@keys_option
@database_option
@click.argument("person_id", metavar="ID")
@json_option
def show(
    ca_directory: Path, keys_directory: Path | None, database: str, person_id: str, as_json: bool
) -> None:
    """What the town has of ID: consents, templates counted, and which devices hold them."""
    with town(ca_directory, keys_directory, database) as opened:
        found = _held(opened, person_id)
        opened.office.audit.append("resident.shown", actor=opened.office.actor, subject=person_id)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['id']}  nickname {found['nickname'] or '-'}  since "
               f"{time_text(found['created_ms'])}")  # fmt: skip
    for given in found["consents"]:
        ended = given["withdrawn_ms"]
        said = f"withdrawn {time_text(ended)}" if ended else f"until {time_text(given['ends_ms'])}"
        click.echo(f"  {given['purpose']:<12} from {time_text(given['accepted_ms'])}  {said}")
    for pack, count in found["templates"].items():
        click.echo(f"  {counted(count, 'template')} of {pack}")
    for gallery, devices in found["devices"].items():
        click.echo(f"  gallery {gallery}: on {', '.join(devices) or 'no device yet'}")


@resident.command("subject")
@ca_option
@keys_option
@database_option
@click.argument("person_id", metavar="ID")
@click.option(
    "--export",
    "output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write all of it as JSON to FILE (mode 0600), or to standard output for -.",
)
@click.option("--erase", is_flag=True, help="Erase all of it and print a receipt.")
@json_option
def subject(
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
    person_id: str,
    output: Path | None,
    erase: bool,
    as_json: bool,
) -> None:
    """Export or erase everything the city holds on resident ID.

    With both options the export comes first. Erasing destroys their key, so that no copy of the
    database opens either, and publishes versions without them: devices report when they have them
    (`kaopass city resident receipts`).
    """
    if output is None and not erase:
        raise UsageError("say what to do: --export FILE, --erase, or both")
    with town(ca_directory, keys_directory, database) as opened:
        audit, actor = opened.office.audit, opened.office.actor
        if output is not None:
            held = _held(opened, person_id, events=True)
            count = len(held["events"])
            audit.append("resident.exported", actor=actor, subject=person_id, events=count)
            with written(output) as out:
                json.dump(held, out, ensure_ascii=False, indent=1)
                out.write("\n")
            if str(output) != "-":
                click.echo(f"profile and {count} events written to {output}", err=True)
        if not erase:
            return
        opened.residents.get(person_id)
        audit.append("resident.erased", actor=actor, subject=person_id)
        receipt = opened.eraser.erase(person_id, now_ms())
        left = _purge_copies(opened)
        published = [f"{p.head.gallery} {p.head.epoch}.{p.head.version}"
                     for p in opened.publish(GALLERIES)]  # fmt: skip
    if as_json:
        print_json({"receipt": receipt, "published": published, "copies_left": left})
        return
    click.echo(f"{person_id} is erased, receipt {receipt}")
    click.echo(f"  key destroyed, profile and templates gone, events are nobody's; published: "
               f"{', '.join(published) or 'nothing'}")  # fmt: skip
    for path in left:
        click.echo(f"  the key is still in {path}: bring it up to date (kaopass city keys backup), "
                   "or destroy it (kaopass city keys forget)")  # fmt: skip
    click.echo(f"  devices report: kaopass city resident receipts {receipt}")


@resident.command("receipts")
@ca_option
@keys_option
@database_option
@click.argument("receipt", metavar="RECEIPT")
@json_option
def show_receipts(
    ca_directory: Path, keys_directory: Path | None, database: str, receipt: str, as_json: bool
) -> None:
    """Which device has applied the version without the person erased under RECEIPT, and when."""
    from agent.cityos.galleries import receipts

    with town(ca_directory, keys_directory, database) as opened:
        serving = {each: opened.office.registry.serving(each, now_ms()) for each in GALLERIES}
        with opened.residents.reading() as db:
            found = receipts.erasure(db, receipt, serving)
        copies = opened.keys.copies()
    if found is None:
        raise CityError(f"there is no receipt {receipt!r}: it was printed by resident ID --erase")
    at_ms, since, applied = found
    left = [str(path) for path, copied_ms in copies.items() if copied_ms < at_ms]
    if as_json:
        print_json(
            {
                "receipt": receipt,
                "erased_ms": at_ms,
                "versions": {name: position and list(position) for name, position in since.items()},
                "devices": [
                    {"gallery": each.gallery, "device": each.device, "applied_ms": each.at_ms}
                    for each in applied
                ],
                "copies_left": left,
            }
        )
        return
    click.echo(f"erased at the city {time_text(at_ms)}")
    for gallery, position in since.items():
        if gallery in GALLERIES:
            said = f"gone since {position[0]}.{position[1]}" if position else "not published yet"
            click.echo(f"gallery {gallery}: {said}")
    for each in applied:
        said = time_text(each.at_ms) if each.at_ms else "not reported yet"
        click.echo(f"  {each.device:<20} {said}")
    for path in left:
        click.echo(f"  copy of keys {path}: from before the erasure")


def _standing(found: Resident, now: int) -> list[str]:
    names = dict.fromkeys(given.consent.purpose for given in found.profile.consents)
    return [name for name in names if found.profile.standing(name, now) is not None]


def _held(opened: Town, person_id: str, *, events: bool = False) -> dict[str, Any]:
    from agent.cityos.galleries import receipts
    from agent.cityos.residents.profiles import given_fields

    found = opened.residents.get(person_id)
    with opened.residents.reading() as db:
        devices = {each: receipts.holders(db, each, found.ref) for each in GALLERIES}
    held: dict[str, Any] = {
        "id": found.profile.id,
        "nickname": found.profile.nickname,
        "created_ms": found.profile.created_ms,
        "consents": [
            {**given_fields(given), "ends_ms": given.ends_ms} for given in found.profile.consents
        ],
        "templates": dict(found.templates),
        "devices": {each: names for each, names in devices.items() if names is not None},
    }
    if events:
        held["pseudonyms"] = opened.residents.pseudonyms(person_id)
        held["events"] = opened.residents.events(person_id)
    return held


def _purge_copies(opened: Town) -> list[str]:
    """Bring every copy of the keys up to date; those that cannot be reached."""
    from agent.cityos.keys.keybackup import backup

    left = []
    for path in opened.keys.copies():
        try:
            if not path.exists():
                raise CityError("it is not there")
            backup(opened.keys, path, now_ms())
        except (CityError, UsageError):
            left.append(str(path))
    return left


for enrolling in (add, import_directory):
    resident.add_command(enrolling)
