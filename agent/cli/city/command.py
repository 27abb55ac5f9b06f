"""``kaopass city command``: tell a device to do something, and see what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import CityError
from agent.cli.city.arguments import argument_options, arguments_of
from agent.cli.city.common import city_options, database, now_ms, time_text
from agent.cli.common import json_option, print_json
from agent.protocol.commands import COMMANDS, CommandSpec

if TYPE_CHECKING:
    from agent.cityos.control.orders import Ordered
    from agent.cityos.usecases.city import CityDatabase
    from agent.cityos.usecases.office import CityPlaces

_POLL_SECONDS = 0.2

_wait_option = click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long for the answer and print it; exit code 1 unless it is 'done'.",
)
_ttl_option = click.option(
    "--ttl",
    "ttl_seconds",
    type=click.IntRange(min=1, max=30 * 86_400),
    default=86_400,
    show_default=True,
    metavar="SECONDS",
    help="The device no longer does it after that.",
)


class _Order(click.Group):
    """``list``, else a device and what it is told."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return super().resolve_command(ctx, ["send", *args])


def send_command(specs: Sequence[CommandSpec] = COMMANDS) -> click.Command:
    """``send``: WHAT is one of *specs*, and each of their arguments an option."""
    named = {spec.name: spec for spec in specs if not spec.ordered_by}

    @city_options(database=True)
    @click.argument("device", metavar="DEVICE")
    @click.argument("what", metavar="WHAT", type=click.Choice(list(named)))
    @argument_options(list(named.values()))
    @_ttl_option
    @_wait_option
    @json_option
    def send(
        places: CityPlaces,
        device: str,
        what: str,
        ttl_seconds: int,
        wait_seconds: float,
        as_json: bool,
        **given: Any,
    ) -> None:
        from agent.cityos.usecases import steering

        arguments = arguments_of(named[what], list(named.values()), given)
        with database(places) as opened:
            name = steering.send(opened, device, what, arguments, now_ms(), ttl_seconds)
            found = _settled(opened, name, wait_seconds)
        _show(found, as_json)
        if wait_seconds and found.state != "done":
            raise CityError(f"{device}: {what} is {found.state} after {wait_seconds:g} s")

    listed = "\n".join(f"{spec.name:<12} {spec.does}" for spec in named.values())
    elsewhere = "".join(
        f" For {spec.name} there is '{spec.ordered_by}'." for spec in specs if spec.ordered_by
    )
    text = f"Have DEVICE do WHAT, and see what came of it.{elsewhere}\n\n\b\n{listed}"
    return click.command("send", help=text)(send)


@click.group("command", cls=_Order)
def command() -> None:
    """Command devices: 'kaopass city command DEVICE WHAT', or 'list'.

    'kaopass city command send --help' says what there is. A running 'kaopass city serve' with the
    signing key sends it, again and again until the device answers; the device does it once.
    """


command.add_command(send_command())


@command.command("list")
@city_options(ca=False, database=True)
@click.option("--device", help="Only those to this device.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="The newest.")
@json_option
def list_commands(places: CityPlaces, device: str | None, limit: int, as_json: bool) -> None:
    """List commands and what came of them, the newest last."""
    from agent.cityos.usecases import steering

    with database(places) as opened:
        rows = steering.commands(opened, device, limit)
    for row in rows:
        _show(row, as_json)
    if not rows and not as_json:
        click.echo("no commands")


def _settled(opened: CityDatabase, name: str, seconds: float) -> Ordered:
    """The command *name* once it is settled, or as it is after *seconds*."""
    from agent.cityos.usecases import steering

    until = time.monotonic() + seconds
    while True:
        found = steering.command(opened, name)
        if found is None:
            raise CityError(f"the command {name} is gone from the database")
        if found.answered_ms is not None or time.monotonic() >= until:
            return found
        time.sleep(_POLL_SECONDS)


def _show(row: Ordered, as_json: bool) -> None:
    if as_json:
        print_json(asdict(row))
        return
    why = f"  {row.reason}" if row.reason else ""
    click.echo(
        f"{row.id}  {row.device:<20} {row.command:<11} {row.state:<8} sent {row.sends}x  "
        f"{time_text(row.made_ms)}{why}"
    )
    if row.detail:
        click.echo(json.dumps(row.detail, ensure_ascii=False, indent=2))
