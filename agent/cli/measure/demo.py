"""``kaopass demo``: the whole line on this machine, with photographs as passengers."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import asdict
from typing import Any

import click

from agent.base.errors import UsageError
from agent.cli.common import id_and_file, json_option, print_json


@click.command("demo")
@click.option("--headless", is_flag=True, help="No page; run once, as fast as this machine can.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="The page's port; 0 takes a free one."
)
@click.option("--source", metavar="SOURCE", help="Your own footage or camera, not the scene.")
@click.option(
    "--enroll",
    "enrolments",
    metavar="ID=FILE",
    multiple=True,
    help="Enrol ID from your picture or clip; may be given several times.",
)
@click.option(
    "--liveness",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Refuse photographs, which the scene's passengers are.",
)
@click.option(
    "--broker",
    type=click.Choice(["auto", "mosquitto", "embedded"]),
    default="auto",
    show_default=True,
    help="The system's Mosquitto, or one from a library; auto takes what there is.",
)
@json_option
def command(enrolments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Show the whole line: enrol, recognise at a door, journal, sync, the city's table.

    Needs no camera, no broker and no rights. One person is enrolled from one photograph; then
    people cut out of other photographs walk up to the camera. Watch it in a browser, on this
    machine only. The face models' research-only licence is accepted for the demo. Everything is
    kept in a temporary folder and gone afterwards.
    """
    try:
        from agent.demo.run import Options, run
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the demo needs {error.name}, which is not installed; run: pip install 'kaopass[demo]'"
        ) from error

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    people = tuple(id_and_file(text) for text in enrolments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    summary = run(
        Options(enrolments=people, **given),
        stop,
        tell=lambda text: click.echo(text, err=as_json),
    )
    if as_json:
        print_json(asdict(summary))
        return
    boarded = ", ".join(f"{who} ({count})" for who, count in summary.recognised.items())
    click.echo(f"recognised: {boarded or 'nobody'}")
    if summary.strangers_seen is not None:
        click.echo(f"strangers: {summary.strangers_seen} seen, {summary.strangers_named} named")
    click.echo(
        f"events: {summary.events_committed} committed, {summary.events_at_city} at the city; "
        f"{summary.seconds} s"
    )
