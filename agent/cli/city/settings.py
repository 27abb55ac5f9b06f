"""``kaopass city settings``: what devices are told from afar, and what they made of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError, SettingsError, UsageError
from agent.cli.city.common import city_options, database, now_ms, time_text
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.control.configs import Version
    from agent.cityos.usecases.office import CityPlaces

_POLL_SECONDS = 0.2


@click.group("settings")
def settings() -> None:
    """The settings of devices, as far as they are set from here."""


@settings.command("set")
@city_options(database=True)
@click.argument("device", metavar="DEVICE")
@click.argument("changes", metavar="SECTION.KEY=VALUE...", nargs=-1)
@click.option(
    "--unset", "unset", multiple=True, metavar="SECTION.KEY", help="Back to the device's own."
)
@click.option("--base", type=click.IntRange(min=0), help="Only if this version is in force.")
@click.option("--whole", is_flag=True, help="What is given is all that is set from here.")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long until the device has taken or refused it; exit code 1 unless taken.",
)
@json_option
def set_settings(
    places: CityPlaces,
    device: str,
    changes: tuple[str, ...],
    unset: tuple[str, ...],
    base: int | None,
    whole: bool,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Set settings of DEVICE, over those of its own file.

    They form a new version, which the device takes whole or not at all: only if it follows the one
    in force there, if everything is valid together, and if the agent comes up with it; else it
    goes on with what it had, and 'show' says why. VALUE is JSON, or a text as it is.
    """
    from agent.cityos.usecases import steering

    values, back = _values(changes), [_name(each) for each in unset]
    if not values and not back and not whole:
        raise UsageError("nothing is set: give SECTION.KEY=VALUE, or --unset SECTION.KEY")
    _check(values)
    with database(places) as opened:
        made = steering.set_settings(
            opened, device, values, now_ms(), unset=back, base=base, whole=whole
        )
        until = time.monotonic() + wait_seconds
        while made.state == "waiting" and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
            versions = steering.settings_of(opened, device)
            made = next(each for each in versions if each.version == made.version)
    _show(made, as_json)
    if wait_seconds and made.state != "accepted":
        raise CityError(f"{device}: settings {made.version} are {made.state}")


@settings.command("show")
@city_options(ca=False, database=True)
@click.argument("device", metavar="DEVICE")
@click.option("--all", "everything", is_flag=True, help="Every version there ever was.")
@json_option
def show(places: CityPlaces, device: str, everything: bool, as_json: bool) -> None:
    """What is set for DEVICE from here: in force, waiting, and refused with the reasons."""
    from agent.cityos.usecases import steering

    with database(places) as opened:
        versions = steering.settings_of(opened, device)
    newest = versions[-1].version if versions else 0
    for version in versions:
        live = version.state in ("accepted", "unknown", "waiting") or version.version == newest
        if everything or live:
            _show(version, as_json)
    if not versions and not as_json:
        click.echo(f"nothing is set from here for {device}")


def _values(changes: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for change in changes:
        name, separator, told = change.partition("=")
        if not separator:
            raise UsageError(f"{change}: write it as SECTION.KEY=VALUE")
        section, key = _name(name)
        try:
            value = json.loads(told)
        except ValueError:
            value = told
        found.setdefault(section, {})[key] = value
    return found


def _name(told: str) -> tuple[str, str]:
    section, separator, key = told.partition(".")
    if not (section and separator and key):
        raise UsageError(f"{told}: a setting is SECTION.KEY, for example vision.max_faces")
    return section, key


def _check(values: dict[str, dict[str, Any]]) -> None:
    """What no device would take is said here already; only the device can judge the whole."""
    from agent.settings.model import city_problems

    # Whether the values of a section suit each other depends on the device's own file.
    together = tuple(f"{section} = " for section in values)
    problems = [each for each in city_problems(values) if not each.startswith(together)]
    if problems:
        raise SettingsError("settings", problems)


def _show(version: Version, as_json: bool) -> None:
    if as_json:
        print_json(asdict(version))
        return
    click.echo(
        f"{version.device} settings {version.version} (after {version.base}): {version.state}, "
        f"made {time_text(version.made_ms)}"
    )
    for section, values in version.settings.items():
        for key, value in values.items():
            click.echo(f"  {section}.{key} = {json.dumps(value, ensure_ascii=False)}")
    for problem in version.problems:
        click.echo(f"  refused: {problem}")
