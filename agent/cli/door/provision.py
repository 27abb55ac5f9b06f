"""``kaopass provision``: from a claim to a certificate in use, in one command."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

import click

from agent.base.errors import UsageError
from agent.cli.common import json_option, operator, print_json, settings_option

_WORDS = {
    "key": "key made on this device",
    "authorities": "city's authorities received",
    "waiting": "waiting for approval by the city",
    "certificate": "certificate received and checked",
    "connected": "connected to the broker with it",
    "committed": "in use",
}


@click.command("provision")
@settings_option
@click.option("--server", required=True, metavar="URL", help="EST server, https://host:port.")
@click.option(
    "--claim",
    required=True,
    envvar="KAOPASS_CLAIM",
    help="The one-use code from 'kaopass city claim'.",
)
@click.option(
    "--ca-fingerprint", default="", metavar="SHA256", help="Of the city's authority, as claimed."
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The city's authority as a PEM file; with neither the system's authorities count.",
)
@click.option(
    "--wait-seconds",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 86_400),
    help="How long to wait for somebody's approval.",
)
@json_option
def command(
    settings_file: Path | None,
    server: str,
    claim: str,
    ca_fingerprint: str,
    ca: Path | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Give this device its certificate, with a one-use claim.

    Makes a key here, has it certified by the city (EST, RFC 7030), tries the certificate at the
    broker, and puts it into use. After any failure what was before still holds, and the same
    command again goes on where it stopped.
    """
    from agent.device.serial import hardware_serial
    from agent.settings.model import load
    from agent.usecases.membership import provision
    from agent.wiring.desk import LocalDesk
    from agent.wiring.provisioning import provisioning, server_trust

    began = time.monotonic()
    if ca is not None and ca_fingerprint:
        raise UsageError("give --ca or --ca-fingerprint, not both")
    settings = load(settings_file)
    serial = hardware_serial(settings.device.serial)
    audit = LocalDesk(settings).audit

    def tell(step: str) -> None:
        if step in _WORDS and not as_json:
            click.echo(f"{time.monotonic() - began:6.2f} s  {_WORDS[step]}")

    trust = server_trust(server, _read(ca), ca_fingerprint)
    found = provision(
        provisioning(settings, server, trust, wait_seconds=wait_seconds, on_step=tell),
        claim,
        server=server,
        device=settings.device.name,
        serial=serial,
        trust=trust,
        audit=audit,
        actor=operator(),
    )
    identity = found.identity
    seconds = round(time.monotonic() - began, 2)
    ends = datetime.fromtimestamp(identity.not_after_ms / 1000, tz=timezone.utc)
    if as_json:
        print_json(
            {
                "device": identity.device,
                "serial": serial,
                "certificate": identity.serial,
                "not_after_ms": identity.not_after_ms,
                "resumed": found.resumed,
                "seconds": seconds,
            }
        )
        return
    click.echo(f"{identity.device} is provisioned until {ends:%Y-%m-%d}, in {seconds} s")


def _read(ca: Path | None) -> bytes | None:
    if ca is None:
        return None
    try:
        return ca.read_bytes()
    except OSError as error:
        raise UsageError(f"--ca {ca}: cannot be read: {error.strerror}") from error
