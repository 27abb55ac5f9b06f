"""The ``kaopass`` command: finds each subcommand in its own file, imported only when called."""

from __future__ import annotations

import click

from agent.cli.lazy import LazyGroup

# name -> module that holds a click command called ``command``
COMMANDS = {
    "run": "agent.cli.door.run",
    "demo": "agent.cli.measure.demo",
    "identify": "agent.cli.measure.identify",
    "gallery": "agent.cli.gallery.group",
    "accuracy": "agent.cli.measure.accuracy",
    "keys": "agent.cli.door.keys",
    "journal": "agent.cli.door.journal",
    "liveness": "agent.cli.measure.liveness",
    "bench": "agent.cli.bench.group",
    "lab": "agent.cli.lab.group",
    "models": "agent.cli.door.models",
    "settings": "agent.cli.door.settings",
    "status": "agent.cli.door.status",
    "provision": "agent.cli.door.provision",
    "audit": "agent.cli.door.audit",
    "city": "agent.cli.city.group",
    "version": "agent.cli.door.version",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def kaopass() -> None:
    """顔パス: the agent at a bus door or in a community hall.

    Sees an opted-in resident, recognises them on this device, journals the boarding or check-in,
    and syncs it to the city's platform.
    """
