"""What several commands share: the settings option, and printing for people and for programs."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from agent.base.errors import UsageError

if TYPE_CHECKING:
    from agent.wiring.desk import LocalDesk

settings_option = click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="KAOPASS_SETTINGS",
    show_envvar=True,
    help="TOML file with the settings; without it the defaults hold.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, written out at once."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def id_and_file(text: str) -> tuple[str, str]:
    """``anna=anna.jpg`` as id and file. Raises UsageError."""
    person, separator, file = text.partition("=")
    if not (person and separator and file):
        raise UsageError(
            f"--enroll {text}: write it as ID=FILE, for example --enroll anna=anna.jpg"
        )
    return person, file


def open_desk(settings_file: Path | None) -> LocalDesk:
    """What opens the parts of the device whose settings are in *settings_file*."""
    # Only the commands that need keys pay for these imports.
    from agent.settings.model import load
    from agent.wiring.desk import LocalDesk

    return LocalDesk(load(settings_file))


def operator() -> str:
    """The login of whoever called; on a board the command runs as the service's user by sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        return str(os.getuid())


def counted(count: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


@contextmanager
def written(output: Path) -> Iterator[TextIO]:
    """*output* open for writing, or standard output for ``-``.

    A file has mode 0600 and appears under its name only when it is complete. Raises UsageError.
    """
    if str(output) == "-":
        yield sys.stdout
        return
    draft = output.with_name(f".{output.name}.part")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="") as out:  # noqa: PTH123 - by descriptor
            yield out
        draft.replace(output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
