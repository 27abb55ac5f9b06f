"""``kaopass city consent``: who consents to what, in which words; given, renewed, withdrawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.base.errors import CityError, UsageError
from agent.cli.city.common import Office, ca_option, now_ms, office
from agent.cli.city.residents.enrol import (
    age_option,
    guardian_option,
    language_option,
    purposes_option,
)
from agent.cli.city.town import (
    GALLERIES,
    check_guardian,
    keys_option,
    load_texts,
    notices_option,
    town,
)
from agent.cli.city.upkeep import database_option, time_text
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.residents.profiles import Profile


@click.group("consent")
def consent() -> None:
    """Consents, one a purpose, each to a notice that was shown; they lapse after a year."""


@consent.command("give")
@ca_option
@keys_option
@database_option
@notices_option
@click.argument("person_id", metavar="ID")
@purposes_option
@language_option
@guardian_option
@age_option
@json_option
def give(
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
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
    from agent.cityos.residents.profiles import Given, given_fields

    check_guardian(age, guardian)
    now = now_ms()
    with town(ca_directory, keys_directory, database) as opened:
        texts = load_texts(opened.office, notices_directory)
        given = tuple(
            Given(texts[purpose, language].consent(now, guardian=guardian), now)
            for purpose in dict.fromkeys(purposes)
        )
        opened.residents.get(person_id)
        for each in given:
            _note(opened.office, "consent.given", person_id, each.consent.purpose)

        def added(profile: Profile) -> Profile:
            return replace(profile, consents=(*profile.consents, *given))

        opened.residents.change(person_id, added, now)
        opened.publish(GALLERIES)
    for each in given:
        if as_json:
            print_json(given_fields(each))
        else:
            click.echo(
                f"{person_id} consents to {each.consent.purpose} until {time_text(each.ends_ms)}"
                f" (notice {each.consent.text_version}, {language})"
            )


@consent.command("renew")
@ca_option
@keys_option
@database_option
@notices_option
@click.argument("person_id", metavar="ID")
@purposes_option
@language_option
@guardian_option
@json_option
def renew(
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
    notices_directory: Path | None,
    person_id: str,
    purposes: tuple[str, ...],
    language: str,
    guardian: bool,
    as_json: bool,
) -> None:
    """Note that ID consents for another year to a purpose they consent to still."""
    with town(ca_directory, keys_directory, database) as opened:
        profile = opened.residents.get(person_id).profile
    for purpose in purposes:
        if profile.standing(purpose, now_ms()) is None:
            raise UsageError(
                f"{person_id} has no consent to {purpose} that could be renewed: show the notice,"
                " then consent give"
            )
    context = click.get_current_context()
    context.invoke(
        give,
        ca_directory=ca_directory,
        keys_directory=keys_directory,
        database=database,
        notices_directory=notices_directory,
        person_id=person_id,
        purposes=purposes,
        language=language,
        guardian=guardian,
        age=None,
        as_json=as_json,
    )


@consent.command("withdraw")
@ca_option
@keys_option
@database_option
@click.argument("person_id", metavar="ID")
@purposes_option
@json_option
def withdraw(
    ca_directory: Path,
    keys_directory: Path | None,
    database: str,
    person_id: str,
    purposes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Withdraw ID's consent to a purpose, without a reason, and publish: devices forget them.

    A database restored from an older copy does not bring it back. To erase everything:
    kaopass city resident ID --erase.
    """
    with town(ca_directory, keys_directory, database) as opened:
        given = {each.consent.purpose for each in opened.residents.get(person_id).profile.consents}
        never = [purpose for purpose in purposes if purpose not in given]
        if never:
            raise CityError(
                f"{person_id} never consented to {', '.join(never)}: see kaopass city consent show"
                f" {person_id}; nothing was withdrawn"
            )
        for purpose in purposes:
            _note(opened.office, "consent.withdrawn", person_id, purpose)
            opened.residents.withdraw(person_id, purpose, now_ms())
        published = opened.publish(GALLERIES)
    versions = [f"{p.head.gallery} {p.head.epoch}.{p.head.version}" for p in published]
    if as_json:
        print_json({"id": person_id, "withdrawn": list(purposes), "published": versions})
    else:
        said = ", ".join(versions) or "nothing had to be"
        click.echo(f"{person_id}: withdrawn: {', '.join(purposes)}; published: {said}")


@consent.command("show")
@ca_option
@keys_option
@database_option
@click.argument("person_id", metavar="ID")
@json_option
def show(
    ca_directory: Path, keys_directory: Path | None, database: str, person_id: str, as_json: bool
) -> None:
    """Every consent ID ever gave: to what, in which words, from when until when."""
    from agent.cityos.residents.profiles import given_fields

    with town(ca_directory, keys_directory, database) as opened:
        found = opened.residents.get(person_id).profile.consents
        opened.office.audit.append("resident.shown", actor=opened.office.actor, subject=person_id)
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
@ca_option
@notices_option
@click.argument(
    "purpose", type=click.Choice(["bus", "hall", "linking", "statistics", "third_party"])
)
@language_option
def notice(ca_directory: Path, notices_directory: Path | None, purpose: str, language: str) -> None:
    """Print the notice that is shown before anybody consents to PURPOSE."""
    with office(ca_directory) as opened:
        found = load_texts(opened, notices_directory)[purpose, language]
    click.echo(found.text)
    click.echo(f"({found.version})")


def _note(opened: Office, action: str, person_id: str, purpose: str) -> None:
    opened.audit.append(action, actor=opened.actor, subject=person_id, purpose=purpose)
