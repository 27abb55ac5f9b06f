"""``kaopass run``: the agent of one door, as the systemd unit starts it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from agent.cli.common import open_ring, settings_option
from agent.settings import Settings, load


@click.command("run")
@settings_option
@click.option(
    "--camera", "source", metavar="SOURCE", help="Use this camera, file or folder instead."
)
@click.option(
    "--keys",
    type=click.Choice(["file", "credential", "otp"]),
    help="Where the device key is; the systemd unit says 'credential'.",
)
@click.option("--until-end", is_flag=True, help="Stop when a file is over, instead of waiting on.")
@click.option("--json", "as_json", is_flag=True, help="Print each notice as a JSON line.")
def command(
    settings_file: Path | None, source: str | None, keys: str | None, until_end: bool, as_json: bool
) -> None:
    """Run the agent until it is told to stop (SIGTERM or Ctrl-C).

    Watches the camera, recognises enrolled residents, journals each boarding or check-in, shows
    the result, and syncs to the city. Ask it how it is with `kaopass status`.
    """
    # Before the slow imports: being told to stop while starting is no failure either.
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from agent.device.memory import return_large_buffers

    return_large_buffers()
    from agent.app import Agent
    from agent.device.notify import from_environment
    from agent.parts import camera_overrides

    overrides: dict[str, dict[str, Any]] = {}
    if source is not None:
        overrides["camera"] = camera_overrides(source)
    if keys is not None:
        overrides["keys"] = {"source": keys}
    settings = load(settings_file, overrides)
    # journald adds time and unit; a terminal does not need them.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    notifier, watchdog = from_environment()
    agent = Agent(
        settings,
        open_ring(settings),
        displays=_displays(settings, as_json),
        notifier=notifier,
        watchdog=watchdog,
    )
    with agent:
        agent.run(stop, until_end=until_end)
    notifier.close()


def _displays(settings: Settings, as_json: bool) -> list[Any]:
    from agent.feedback.console import Console

    if settings.feedback.display == "none" and not as_json:
        return []
    return [
        Console(
            sys.stdout,
            place=settings.place.kind,
            direction=settings.place.direction,
            language=settings.feedback.language,
            json_lines=as_json,
        )
    ]
