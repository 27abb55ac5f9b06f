"""``kaopass city claim|device``: who may become a device, who is one, who is none any more."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from agent.cli.city.common import (
    city_options,
    now_ms,
    office,
    say_waiting,
    time_text,
    version_text,
)
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.usecases.office import CityPlaces


@click.command("claim")
@city_options()
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
    places: CityPlaces,
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
    from agent.cityos.usecases import devices

    with office(places) as opened:
        made = devices.claim(
            opened, device, serial, purpose, now_ms(), hours=hours, by_hand=by_hand
        )
    if as_json:
        print_json(
            {
                "device": device,
                "serial": serial,
                "purpose": purpose,
                "claim": made.code,
                "expires_ms": made.expires_ms,
                "ca_fingerprint": made.fingerprint,
            }
        )
        return
    until = time_text(made.expires_ms)
    click.echo(f"claim for {device} on {serial}, once, until {until}:\n  {made.code}")
    click.echo(
        f"on the device (device.name = {device!r}):\n  kaopass provision --server "
        f"https://HOST:8443 --claim {made.code} --ca-fingerprint {made.fingerprint}"
    )


@click.group("device")
def device() -> None:
    """The devices that have or may get a certificate."""


@device.command("list")
@city_options()
@json_option
def list_devices(places: CityPlaces, as_json: bool) -> None:
    """List devices: claimed, waiting for approval, active, expired, revoked."""
    with office(places) as opened:
        found = opened.registry.devices(now_ms())
    for row in found:
        if as_json:
            print_json(asdict(row))
            continue
        until = f"until {time_text(row.ends_ms)}" if row.certificates else ""
        key = f"key {row.key}" if row.state == "waiting" else ""
        serves = row.purpose or "-"
        click.echo(
            f"{row.name:<20} {row.serial:<34} {serves:<4} {row.state:<8} {until}{key}".rstrip()
        )


@device.command("approve")
@city_options()
@click.argument("name", metavar="DEVICE")
def approve(places: CityPlaces, name: str) -> None:
    """Let through the request of DEVICE that waits.

    Compare the key in 'kaopass city device list' with the one the device shows first.
    """
    from agent.cityos.usecases import devices

    with office(places) as opened:
        devices.approve(opened, name)
    click.echo(f"{name} is approved")


@device.command("serve")
@city_options()
@click.argument("name", metavar="DEVICE")
@click.option(
    "--purpose",
    type=click.Choice(["bus", "hall"]),
    required=True,
    help="Whose residents it gets from now on.",
)
def serve(places: CityPlaces, name: str, purpose: str) -> None:
    """Say what DEVICE stands for, if its claim did not, or it was moved.

    It forgets the other residents by itself when its place.kind changes.
    """
    from agent.cityos.usecases import devices

    with office(places) as opened:
        devices.serve(opened, name, purpose, now_ms())
    click.echo(f"{name} serves {purpose}")


@device.command("revoke")
@city_options(keys=True, database=True)
@click.argument("name", metavar="DEVICE")
def revoke(places: CityPlaces, name: str) -> None:
    """Lock DEVICE out: its certificates and claims are void, its connection is silenced.

    Its gallery goes on under another content key, which it does not get. It can come back only by a
    new claim. Where something failed half-way, the same command does the rest.
    """
    from agent.cityos.usecases import devices

    with office(places) as opened:
        done = devices.revoke(opened, name, now_ms())
    for line in done.to_do:
        click.echo(line, err=True)
    if done.trouble is None:
        click.echo(f"{name} is revoked")
    if done.gallery is not None:
        say_waiting(done.gallery.waiting)
        for each in done.gallery.published:
            click.echo(f"gallery {version_text(each)}: under a new key")
    if done.trouble is not None:
        raise done.trouble
