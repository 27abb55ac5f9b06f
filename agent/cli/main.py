"""The ``kaopass`` command: finds each subcommand in its own file, imported only when called."""

from __future__ import annotations

import click

from agent.cli.lazy import LazyGroup

# name -> module that holds a click command called ``command``
COMMANDS = {
    "run": "agent.cli.run",
    "demo": "agent.cli.demo",
    "identify": "agent.cli.identify",
    "gallery": "agent.cli.gallery",
    "accuracy": "agent.cli.accuracy",
    "keys": "agent.cli.keys",
    "journal": "agent.cli.journal",
    "liveness": "agent.cli.liveness",
    "bench": "agent.cli.bench",
    "models": "agent.cli.models",
    "settings": "agent.cli.settings",
    "status": "agent.cli.status",
    "provision": "agent.cli.provision",
    "audit": "agent.cli.audit",
    "city": "agent.cli.city",
    "version": "agent.cli.version",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
def kaopass() -> None:
    """顔パス: the agent at a bus door or in a community hall.

    Sees an opted-in resident, recognises them on this device, journals the boarding or check-in,
    and syncs it to the city's platform.
    """
