"""What the commands of the lab share: which disk, how far they are, and what must be installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from agent.base.errors import UsageError
from agent.lab.disk import Progress

# What the extra brings that a door does not install.
PACKAGES = ("matplotlib", "onnx", "sqlalchemy")
_WORD_WIDTH = 12

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    help="A directory on the disk to measure; default: this one. Nothing is left in it.",
)


def need_lab() -> None:
    """Raise UsageError unless kaopass was installed with its lab."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"this is for development and not on a door ({', '.join(missing)} is missing); "
            "install it with: pip install 'kaopass[lab]'"
        )


def shown_progress() -> Progress:
    """A line that overwrites itself, where somebody watches; called with "" it is wiped."""
    return _bar if sys.stderr.isatty() else _quiet


def _bar(what: str, done: float) -> None:
    line = f"{what:<{_WORD_WIDTH}} {done:>4.0%}" if what else " " * (_WORD_WIDTH + 6) + "\r"
    click.echo(f"\r{line}", nl=False, err=True)


def _quiet(what: str, done: float) -> None:
    """Where nobody watches."""
