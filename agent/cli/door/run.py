"""``kaopass run``: the agent of one door, as the systemd unit starts it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import KaopassError
from agent.cli.common import settings_option

if TYPE_CHECKING:
    from agent.device.notify import Notifier, Watchdog
    from agent.link.control.steering import Steering
    from agent.settings.model import Settings


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
@click.option("--json", "as_json", is_flag=True, help="Print each signal as a JSON line.")
def command(
    settings_file: Path | None, source: str | None, keys: str | None, until_end: bool, as_json: bool
) -> None:
    """Run the agent until it is told to stop (SIGTERM or Ctrl-C).

    Watches the camera, recognises enrolled residents, journals each boarding or check-in, shows
    the result, and syncs to the city. Ask it how it is with `kaopass status`.
    """
    # Before the slow imports: being told to stop while starting is no failure either.
    told = _Told()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.stop())
    from agent.device.memory import return_large_buffers

    return_large_buffers()
    from agent.device.notify import from_environment
    from agent.link.control.steering import Steering
    from agent.wiring.devices import camera_overrides

    overrides: dict[str, dict[str, Any]] = {}
    if source is not None:
        overrides["camera"] = camera_overrides(source)
    if keys is not None:
        overrides["keys"] = {"source": keys}
    steering = Steering(settings_file, overrides)
    # journald adds time and unit; a terminal does not need them.
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    notifier, watchdog = from_environment()
    while _run_once(steering, told, notifier, watchdog, until_end=until_end, as_json=as_json):
        watchdog.begin_anew()
    notifier.close()


class _Told:
    """Whether somebody wants the agent to stop; each run of it has an event of its own."""

    def __init__(self) -> None:
        self.stopped = False
        self._event = threading.Event()

    def stop(self) -> None:
        self.stopped = True
        self._event.set()

    def next_run(self) -> threading.Event:
        """What ends the next run."""
        self._event = threading.Event()
        if self.stopped:
            self._event.set()
        return self._event


def _run_once(
    steering: Steering,
    told: _Told,
    notifier: Notifier,
    watchdog: Watchdog,
    *,
    until_end: bool,
    as_json: bool,
) -> bool:
    """Run the agent until it ends; True if it is to begin anew in this process."""
    from agent.wiring.agent import Agent
    from agent.wiring.desk import open_ring

    settings = steering.begin()
    agent = Agent(
        settings,
        open_ring(settings),
        displays=_displays(settings, as_json),
        notifier=notifier,
        watchdog=watchdog,
        steering=steering,
    )
    try:
        _try_file(settings)
        with agent:
            agent.run(told.next_run(), until_end=until_end)
    except KaopassError as error:
        # With settings from the city on trial, those before are put back instead.
        if told.stopped or not steering.failed(str(error)):
            raise
        return True
    steering.interrupted()
    if told.stopped or not agent.ended_for:
        return False
    if agent.ended_for == "restart" or agent.left_over:
        # Not 0, for systemd starts again what failed, and not 2, which it does not.
        sys.exit(1)
    return True


def _try_file(settings: Settings) -> None:
    """Open a file or folder that stands for a camera, before anybody is told that the door is on.

    A camera may come back; these do not. Raises SettingsError or CameraError.
    """
    from agent.wiring.devices import open_camera

    if settings.camera.kind in ("file", "folder"):
        camera = open_camera(settings.camera)
        camera.open()
        camera.close()


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
