"""``kaopass lab``: what is measured and made in development, with the extra of that name."""

from __future__ import annotations

import click

from agent.cli.lazy import LazyGroup

COMMANDS = {
    "journal": "agent.cli.lab.journal",
    "sync": "agent.cli.lab.sync",
    "quantize": "agent.cli.lab.quantize",
    "golden": "agent.cli.lab.golden",
}


@click.group("lab", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Measure and make what no door needs: journal, sync, quantize, golden.

    It needs what a door does not install: pip install 'kaopass[lab]'.
    """
