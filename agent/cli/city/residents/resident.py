"""``kaopass city resident``: the town's residents: enrol, list, show, hand out, erase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import UsageError
from agent.base.values import PURPOSES
from agent.cli.city.common import city, city_options, now_ms, publish_due, time_text
from agent.cli.city.residents.enrol import add, import_directory
from agent.cli.common import counted, json_option, print_json, written

if TYPE_CHECKING:
    from agent.cityos.residents.profiles import Resident
    from agent.cityos.usecases.office import CityPlaces
    from agent.cityos.usecases.subject import HeldOn


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
@city_options(keys=True, database=True)
@json_option
def list_residents(places: CityPlaces, as_json: bool) -> None:
    """List residents: what they consent to now, and how many templates there are."""
    from agent.cityos.usecases.subject import listed

    now = now_ms()
    with city(places) as opened:
        found = listed(opened)
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
@city_options(keys=True, database=True)
@click.argument("person_id", metavar="ID")
@json_option
def show(places: CityPlaces, person_id: str, as_json: bool) -> None:
    """What the town has of ID: consents, templates counted, and which devices hold them."""
    from agent.cityos.usecases.subject import shown

    with city(places) as opened:
        found = _fields(shown(opened, person_id))
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
@city_options(keys=True, database=True)
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
    places: CityPlaces,
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
    from agent.cityos.usecases.subject import erase as erase_resident
    from agent.cityos.usecases.subject import handed_out

    with city(places) as opened:
        if output is not None:
            held = handed_out(opened, person_id)
            fields = {**_fields(held), "pseudonyms": held.pseudonyms, "events": held.events}
            with written(output) as out:
                json.dump(fields, out, ensure_ascii=False, indent=1)
                out.write("\n")
            if str(output) != "-":
                said = f"profile and {len(held.events)} events written to {output}"
                click.echo(said, err=True)
        if not erase:
            return
        erased = erase_resident(opened, person_id, now_ms())
        published = publish_due(opened)
    receipt, left = erased.receipt, erased.copies_left
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
@city_options(keys=True, database=True)
@click.argument("receipt", metavar="RECEIPT")
@json_option
def show_receipts(places: CityPlaces, receipt: str, as_json: bool) -> None:
    """Which device has applied the version without the person erased under RECEIPT, and when."""
    from agent.cityos.usecases.subject import erasure

    with city(places) as opened:
        found = erasure(opened, receipt, now_ms())
    if as_json:
        print_json(
            {
                "receipt": receipt,
                "erased_ms": found.erased_ms,
                "versions": {
                    name: position and list(position) for name, position in found.versions.items()
                },
                "devices": [
                    {"gallery": each.gallery, "device": each.device, "applied_ms": each.at_ms}
                    for each in found.devices
                ],
                "copies_left": found.copies_left,
            }
        )
        return
    click.echo(f"erased at the city {time_text(found.erased_ms)}")
    for gallery, position in found.versions.items():
        if gallery in PURPOSES:
            said = f"gone since {position[0]}.{position[1]}" if position else "not published yet"
            click.echo(f"gallery {gallery}: {said}")
    for each in found.devices:
        said = time_text(each.at_ms) if each.at_ms else "not reported yet"
        click.echo(f"  {each.device:<20} {said}")
    for path in found.copies_left:
        click.echo(f"  copy of keys {path}: from before the erasure")


def _standing(found: Resident, now: int) -> list[str]:
    names = dict.fromkeys(given.consent.purpose for given in found.profile.consents)
    return [name for name in names if found.profile.standing(name, now) is not None]


def _fields(held: HeldOn) -> dict[str, Any]:
    from agent.cityos.residents.profiles import given_fields

    profile = held.profile
    return {
        "id": profile.id,
        "nickname": profile.nickname,
        "created_ms": profile.created_ms,
        "consents": [
            {**given_fields(given), "ends_ms": given.ends_ms} for given in profile.consents
        ],
        "templates": dict(held.templates),
        "devices": dict(held.devices),
    }


for enrolling in (add, import_directory):
    resident.add_command(enrolling)
