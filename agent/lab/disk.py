"""What the benchmarks that write to a disk have in common: which one, and how far they are."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

_MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh directory inside it
_PREFIX = "kaopass-bench-"
_WORD_WIDTH = 12

Progress = Callable[[str, float], None]  # what is under way, and how far it is: 0 to 1

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=".",
    help="A directory on the disk to measure; default: this one. Nothing is left in it.",
)


@contextmanager
def fresh_folder(within: Path) -> Iterator[Path]:
    """A directory inside *within*, deleted in the end."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=within) as name:
        yield Path(name)


@contextmanager
def quick_folder(needed_bytes: int, otherwise: Path) -> Iterator[Path]:
    """The same in memory if there is room for it, for what the disk's speed has no part in."""
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > needed_bytes
    with fresh_folder(_MEMORY if roomy else otherwise) as folder:
        yield folder


def shown_progress() -> Progress:
    """A line that overwrites itself, where somebody watches; called with "" it is wiped."""
    return _bar if sys.stderr.isatty() else _quiet


def _bar(what: str, done: float) -> None:
    line = f"{what:<{_WORD_WIDTH}} {done:>4.0%}" if what else " " * (_WORD_WIDTH + 6) + "\r"
    click.echo(f"\r{line}", nl=False, err=True)


def _quiet(what: str, done: float) -> None:
    """Where nobody watches."""
