"""``kaopass city claim|device``: who may become a device, who is one, who is none any more."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

import click

from agent.base.errors import CityError
from agent.cli.city.common import ca_option, now_ms, office
from agent.cli.city.town import keys_option, town
from agent.cli.city.upkeep import database_option
from agent.cli.common import json_option, print_json

FILE = "keys.db"  # agent.cityos.keys.keyfile's, without importing it for every command


@click.command("claim")
@ca_option
@click.argument("device", metavar="DEVICE")
@click.option("--serial", required=True, help="The hardware's number, as the device tells it.")
@click.option(
    "--hours",
    default=72.0,
    show_default=True,
    type=click.FloatRange(0, 8760, min_open=True),
    help="How long it can be used.",
)
@click.option(
    "--purpose",
    type=click.Choice(["bus", "hall"]),
    default="bus",
    show_default=True,
    help="What it stands for: it gets the residents who consented to that, and no others.",
)
@click.option("--by-hand", is_flag=True, help="Wait for 'kaopass city device approve' even then.")
@json_option
def claim(
    ca_directory: Path,
    device: str,
    serial: str,
    hours: float,
    purpose: str,
    by_hand: bool,
    as_json: bool,
) -> None:
    """Let the hardware with this serial number become DEVICE, once.

    Prints the code and the command for the technician; it is shown only now. A new claim voids the
    one before.
    """
    with office(ca_directory) as opened:
        now = now_ms()
        note = opened.noting("claim.made", device=device, by_hand=by_hand, purpose=purpose)
        code = opened.registry.claim(
            device, serial, hours, now, note, by_hand=by_hand, purpose=purpose
        )
        fingerprint = opened.authority.fingerprint
    expires_ms = now + round(hours * 3_600_000)
    if as_json:
        print_json(
            {
                "device": device,
                "serial": serial,
                "purpose": purpose,
                "claim": code,
                "expires_ms": expires_ms,
                "ca_fingerprint": fingerprint,
            }
        )
        return
    click.echo(f"claim for {device} on {serial}, once, until {_time(expires_ms)}:\n  {code}")
    click.echo(
        f"on the device (device.name = {device!r}):\n  kaopass provision --server "
        f"https://HOST:8443 --claim {code} --ca-fingerprint {fingerprint}"
    )


@click.group("device")
def device() -> None:
    """The devices that have or may get a certificate."""


@device.command("list")
@ca_option
@json_option
def list_devices(ca_directory: Path, as_json: bool) -> None:
    """List devices: claimed, waiting for approval, active, expired, revoked."""
    with office(ca_directory) as opened:
        found = opened.registry.devices(now_ms())
    for row in found:
        if as_json:
            print_json(asdict(row))
            continue
        until = f"until {_time(row.ends_ms)}" if row.certificates else ""
        key = f"key {row.key}" if row.state == "waiting" else ""
        serves = row.purpose or "-"
        click.echo(
            f"{row.name:<20} {row.serial:<34} {serves:<4} {row.state:<8} {until}{key}".rstrip()
        )


@device.command("approve")
@ca_option
@click.argument("name", metavar="DEVICE")
def approve(ca_directory: Path, name: str) -> None:
    """Let through the request of DEVICE that waits.

    Compare the key in 'kaopass city device list' with the one the device shows first.
    """
    with office(ca_directory) as opened:
        if not opened.registry.approve(name, opened.noting("device.approved", device=name)):
            raise CityError(f"nothing waits for approval as {name!r}; see kaopass city device list")
    click.echo(f"{name} is approved")


@device.command("serve")
@ca_option
@click.argument("name", metavar="DEVICE")
@click.option(
    "--purpose",
    type=click.Choice(["bus", "hall"]),
    required=True,
    help="Whose residents it gets from now on.",
)
def serve(ca_directory: Path, name: str, purpose: str) -> None:
    """Say what DEVICE stands for, if its claim did not, or it was moved.

    It forgets the other residents by itself when its place.kind changes.
    """
    with office(ca_directory) as opened:
        if all(row.name != name for row in opened.registry.devices(now_ms())):
            raise CityError(f"there is no device {name!r}: see kaopass city device list")
        note = opened.noting("device.serves", device=name, purpose=purpose)
        opened.registry.serve(name, purpose, note)
    click.echo(f"{name} serves {purpose}")


@device.command("revoke")
@ca_option
@keys_option
@database_option
@click.argument("name", metavar="DEVICE")
def revoke(ca_directory: Path, keys_directory: Path | None, database: str, name: str) -> None:
    """Lock DEVICE out: its certificates and claims are void, its connection is silenced.

    Its gallery goes on under another content key, which it does not get. It can come back only by a
    new claim. Where something failed half-way, the same command does the rest.
    """
    with office(ca_directory) as opened:
        note = opened.noting("device.revoked", device=name)
        done = opened.registry.revoke(name, now_ms(), note)
        if not done and name not in opened.registry.banned():
            raise CityError(f"there is no device {name!r} that could be revoked")
        purpose = opened.registry.purpose(name)
        trouble = None
        try:
            opened.publish()
            click.echo(f"{name} is revoked")
        except CityError as error:
            trouble = error  # the gallery waits for no broker
    # A town without galleries has no keys, and needs none.
    if purpose and ((keys_directory or ca_directory / "keys") / FILE).exists():
        with town(ca_directory, keys_directory, database) as found:
            found.keys.new_content(purpose)
            for each in found.publish([purpose]):
                head = each.head
                click.echo(f"gallery {purpose} {head.epoch}.{head.version}: under a new key")
    if trouble is not None:
        raise trouble


def _time(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
