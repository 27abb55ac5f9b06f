"""``kaopass version``: what is installed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from agent import __version__
from agent.cli.common import json_option, print_json

PARTS = ("insightface", "onnxruntime", "opencv-python", "paho-mqtt", "sqlite-utils", "cryptography")


@click.command("version")
@json_option
def command(as_json: bool) -> None:
    """Print the version of kaopass and of the parts it stands on."""
    versions = {"kaopass": __version__, "python": platform.python_version()}
    for part in PARTS:
        try:
            versions[part] = version(part)
        except PackageNotFoundError:
            versions[part] = "not installed"
    if as_json:
        print_json(versions)
        return
    for name, number in versions.items():
        click.echo(f"{name:15} {number}")
