"""What the commands of the city share: where it is, its parts opened, publishing, printing."""

from __future__ import annotations

import functools
import getpass
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError, ModelError

if TYPE_CHECKING:
    from agent.cityos.galleries.publishing import Published
    from agent.cityos.residents.faces import Threshold
    from agent.cityos.usecases.city import CityDatabase, OpenCity
    from agent.cityos.usecases.office import CityPlaces, Office

SAME_FACE_FPIR = 0.001  # of this many strangers one is taken for somebody enrolled already

_folder = click.Path(path_type=Path, file_okay=False)
_ca_option = click.option(
    "--ca-directory",
    "ca_directory",
    type=_folder,
    default="city-ca",
    show_default=True,
    envvar="KAOPASS_CITY_CA",
    show_envvar=True,
    help="Where the city's authority and its registry are.",
)
_keys_option = click.option(
    "--keys-directory",
    type=_folder,
    envvar="KAOPASS_CITY_KEYS",
    show_envvar=True,
    help="Where the town's keys are; default: 'keys' in the authority's directory.",
)
_database_option = click.option(
    "--database",
    default="city.db",
    show_default=True,
    envvar="KAOPASS_CITY_DATABASE",
    metavar="URL|PATH",
    help="A SQLite file, or an address such as postgresql://user@host/city.",
)
notices_option = click.option(
    "--notices",
    "notices_directory",
    type=_folder,
    envvar="KAOPASS_CITY_NOTICES",
    show_envvar=True,
    help="The town's own notice texts; default: those that ship.",
)


def city_options(
    *, ca: bool = True, keys: bool = False, database: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options that say where the city is; the command gets them as its first argument.

    What asks for the *database* says what to install where SQLAlchemy is missing.
    """
    options = [
        option
        for option, asked in ((_ca_option, ca), (_keys_option, keys), (_database_option, database))
        if asked
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            from agent.cityos.usecases.office import CityPlaces

            if database:
                need_sqlalchemy()
            names = ("ca_directory", "keys_directory", "database")
            places = {name: values.pop(name) for name in names if name in values}
            function(CityPlaces(**places), **values)

        for option in reversed(options):
            option(command)
        return command

    return decorate


def office(places: CityPlaces) -> AbstractContextManager[Office]:
    """The authority, opened for who types. Raises CityError."""
    from agent.cityos.usecases.office import open_office

    return open_office(places, getpass.getuser())


def database(places: CityPlaces) -> AbstractContextManager[CityDatabase]:
    """The city's database, opened for who types. Raises CityError."""
    from agent.cityos.usecases.city import open_database

    return open_database(places, getpass.getuser())


def city(places: CityPlaces) -> AbstractContextManager[OpenCity]:
    """The city's residents, opened for who types. Raises CityError."""
    from agent.cityos.usecases.city import open_city

    return open_city(places, getpass.getuser())


def need_sqlalchemy() -> None:
    """Raise CityError with what to install unless the city side's packages are there."""
    try:
        import_module("sqlalchemy")  # only whether it can be had: commands touch no database
    except ImportError as error:
        raise CityError(
            "the city side needs SQLAlchemy, which is not installed; "
            "install it with: pip install 'kaopass[city]'"
        ) from error


def publish_due(opened: OpenCity) -> list[str]:
    """New versions of the galleries where something changed; says what waits for a signature."""
    from agent.base.values import PURPOSES
    from agent.cityos.usecases.galleries import publish

    found = publish(opened, PURPOSES, now_ms())
    say_waiting(found.waiting)
    return [version_text(each) for each in found.published]


def say_waiting(galleries: Iterable[str]) -> None:
    for gallery in galleries:
        click.echo(
            f"gallery {gallery} waits for its signature, as the gallery key is not"
            f" on this machine: kaopass city gallery publish {gallery} --unsigned FILE",
            err=True,
        )


def version_text(made: Published) -> str:
    """``bus 1.4``"""
    return f"{made.head.gallery} {made.head.epoch}.{made.head.version}"


def thresholds() -> Threshold:
    """From which cosine two faces are one person's, by the pack's own calibration."""
    from agent.packs.manifest import load_manifest
    from agent.recognition.rules import ENROLLED_VIEWS, pack_calibration

    manifest = load_manifest()

    def threshold(pack: str, templates: int, values: int) -> float:
        known = manifest.pack(pack)
        if known.embedding_size != values:
            raise ModelError(
                f"a template of {values} values: those of pack {pack!r} have {known.embedding_size}"
            )
        return pack_calibration(known).threshold(
            templates, SAME_FACE_FPIR, images=ENROLLED_VIEWS, views=ENROLLED_VIEWS
        )

    return threshold


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def time_text(unix_ms: int) -> str:
    """UTC to the second."""
    try:
        moment = datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{unix_ms} ms"  # a clock set to nonsense
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
