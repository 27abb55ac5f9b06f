"""``kaopass city consent``: who consents to what, in which words; given, renewed, withdrawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.city.common import (
    city,
    city_options,
    notices_option,
    now_ms,
    office,
    publish_due,
    time_text,
)
from agent.cli.city.residents.enrol import (
    Words,
    age_option,
    guardian_option,
    language_option,
    purposes_option,
)
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.usecases.office import CityPlaces


@click.group("consent")
def consent() -> None:
    """Consents, one a purpose, each to a notice that was shown; they lapse after a year."""


@consent.command("give")
@city_options(keys=True, database=True)
@notices_option
@click.argument("person_id", metavar="ID")
@purposes_option
@language_option
@guardian_option
@age_option
@json_option
def give(
    places: CityPlaces,
    notices_directory: Path | None,
    person_id: str,
    purposes: tuple[str, ...],
    language: str,
    guardian: bool,
    age: int | None,
    as_json: bool,
) -> None:
    """Note that ID consents to a purpose, after its notice was shown, and publish.

    Prints the record: it is for the resident to take home.
    """
    from agent.cityos.usecases.consents import check_guardian

    check_guardian(age, guardian)
    words = Words(notices_directory, purposes, language, guardian)
    _give(places, person_id, words, as_json, renewal=False)


@consent.command("renew")
@city_options(keys=True, database=True)
@notices_option
@click.argument("person_id", metavar="ID")
@purposes_option
@language_option
@guardian_option
@json_option
def renew(
    places: CityPlaces,
    notices_directory: Path | None,
    person_id: str,
    purposes: tuple[str, ...],
    language: str,
    guardian: bool,
    as_json: bool,
) -> None:
    """Note that ID consents for another year to a purpose they consent to still."""
    words = Words(notices_directory, purposes, language, guardian)
    _give(places, person_id, words, as_json, renewal=True)


def _give(
    places: CityPlaces, person_id: str, words: Words, as_json: bool, *, renewal: bool
) -> None:
    from agent.cityos.residents.profiles import given_fields
    from agent.cityos.usecases import consents

    with city(places) as opened:
        given = words.consents(opened.office)
        consents.give(opened, person_id, given, now_ms(), renewal=renewal)
        publish_due(opened)
    for each in given:
        if as_json:
            print_json(given_fields(each))
        else:
            click.echo(
                f"{person_id} consents to {each.consent.purpose} until {time_text(each.ends_ms)}"
                f" (notice {each.consent.text_version}, {each.consent.language})"
            )


@consent.command("withdraw")
@city_options(keys=True, database=True)
@click.argument("person_id", metavar="ID")
@purposes_option
@json_option
def withdraw(places: CityPlaces, person_id: str, purposes: tuple[str, ...], as_json: bool) -> None:
    """Withdraw ID's consent to a purpose, without a reason, and publish: devices forget them.

    A database restored from an older copy does not bring it back. To erase everything:
    kaopass city resident ID --erase.
    """
    from agent.cityos.usecases import consents

    with city(places) as opened:
        consents.withdraw(opened, person_id, purposes, now_ms())
        versions = publish_due(opened)
    if as_json:
        print_json({"id": person_id, "withdrawn": list(purposes), "published": versions})
    else:
        said = ", ".join(versions) or "nothing had to be"
        click.echo(f"{person_id}: withdrawn: {', '.join(purposes)}; published: {said}")


@consent.command("show")
@city_options(keys=True, database=True)
@click.argument("person_id", metavar="ID")
@json_option
def show(places: CityPlaces, person_id: str, as_json: bool) -> None:
    """Every consent ID ever gave: to what, in which words, from when until when."""
    from agent.cityos.residents.profiles import given_fields
    from agent.cityos.usecases.subject import shown

    with city(places) as opened:
        found = shown(opened, person_id).profile.consents
    now = now_ms()
    for given in found:
        if as_json:
            print_json({**given_fields(given), "stands": given.stands(now)})
            continue
        state = "stands" if given.stands(now) else "withdrawn" if given.withdrawn_ms else "lapsed"
        said = given.consent
        click.echo(
            f"{said.purpose:<12} {state:<9}  {time_text(given.accepted_ms)} to"
            f" {time_text(given.withdrawn_ms or given.ends_ms)}  notice {said.text_version}"
            f" ({said.language}){'  by a guardian' if said.guardian else ''}"
        )


@consent.command("notice")
@city_options()
@notices_option
@click.argument(
    "purpose", type=click.Choice(["bus", "hall", "linking", "statistics", "third_party"])
)
@language_option
def notice(places: CityPlaces, notices_directory: Path | None, purpose: str, language: str) -> None:
    """Print the notice that is shown before anybody consents to PURPOSE."""
    from agent.notices.texts import load_notices

    with office(places) as opened:
        found = load_notices(opened.authority.name, notices_directory)[purpose, language]
    click.echo(found.text)
    click.echo(f"({found.version})")
