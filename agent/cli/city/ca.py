"""``kaopass city ca|est|broker-config``: the city's authority, EST server and broker's rules."""

from __future__ import annotations

import getpass
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.base.errors import CityError, UsageError
from agent.cli.city.common import city_options, now_ms, office
from agent.cli.common import json_option, print_json

if TYPE_CHECKING:
    from agent.cityos.usecases.office import CityPlaces

_file = click.Path(path_type=Path, dir_okay=False)
host_option = click.option(
    "--host",
    "hosts",
    multiple=True,
    required=True,
    metavar="HOST",
    help="Name or address the server is reached by; may be given several times.",
)


@click.group("ca")
def ca() -> None:
    """The city's own certificate authority."""


@ca.command("init")
@city_options()
@host_option
@click.option("--name", default="kaopass city", show_default=True, help="What it is called.")
@json_option
def init(places: CityPlaces, hosts: tuple[str, ...], name: str, as_json: bool) -> None:
    """Make root and issuing key, the EST server's certificate and the first worker's.

    `root.key` is needed never again on this machine: move it somewhere offline.
    """
    from agent.cityos.usecases.authority import issue_server, issue_worker, make_authority

    directory = places.ca_directory
    fingerprint = make_authority(directory, name, getpass.getuser())
    with office(places) as opened:
        issue_server(opened, hosts)
        issue_worker(opened, "city-1")
    if as_json:
        print_json({"directory": str(directory), "fingerprint": fingerprint})
        return
    click.echo(f"authority {name!r} in {directory}\nfingerprint {fingerprint}")
    click.echo(f"keep {directory / 'root.key'} offline; it signs nothing from day to day")


@ca.command("worker")
@city_options()
@click.argument("name", metavar="NAME")
def worker(places: CityPlaces, name: str) -> None:
    """Issue a certificate for another worker of the city side, e.g. city-2.

    The broker lets in one connection a certificate, so each `kaopass city serve` needs its own.
    """
    from agent.cityos.usecases.authority import issue_worker

    with office(places) as opened:
        path = issue_worker(opened, name)
        for line in opened.tell_brokers():
            click.echo(line, err=True)
    click.echo(f"--certificate {path} --key {path.with_suffix('.key')}")


@click.command("est")
@city_options()
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - devices come from outside
@click.option("--port", default=8443, show_default=True, help="Port; 0 for any free one.")
@click.option(
    "--days",
    default=365.0,
    show_default=True,
    type=click.FloatRange(0.001, 825),
    help="How long a device's certificate lasts.",
)
def est(places: CityPlaces, listen: str, port: int, days: float) -> None:
    """Serve devices that enrol or renew (EST, RFC 7030), until SIGTERM or Ctrl-C."""
    import asyncio
    import signal

    try:
        from agent.cityos.service.est import EstServer, server_context
    except ImportError as error:
        raise CityError(
            "the EST server needs h11, which is not installed; install it with: "
            "pip install 'kaopass[city]'"
        ) from error
    from agent.cityos.service.estdesk import Desk
    from agent.cityos.usecases.office import open_office

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with open_office(places) as opened:
        desk = Desk(opened, days=days)
        folder = places.ca_directory
        context = server_context(folder / "est.pem", folder / "est.key", folder / "ca.pem")

        async def serve() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            await EstServer(desk, context, listen, port).serve(
                stop, lambda bound: click.echo(f"EST server ready on {listen}:{bound}")
            )

        asyncio.run(serve())


@click.command("broker-config")
@city_options()
@host_option
@click.option(
    "--directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write kaopass.conf, its rules, certificates and revocations.",
)
@click.option("--port", default=8883, show_default=True, help="Port the broker listens on.")
@click.option("--bind", default="", help="Address it listens on; default: every one.")
@click.option(
    "--max-connections", default=10_000, show_default=True, help="Devices at most at a time."
)
@click.option(
    "--max-message-bytes", default=262_144, show_default=True, help="Largest message it takes."
)
@click.option(
    "--pid-file", type=_file, help="Where the broker notes its process id: to reload it at once."
)
def broker_config(
    places: CityPlaces,
    hosts: tuple[str, ...],
    directory: Path,
    port: int,
    bind: str,
    max_connections: int,
    max_message_bytes: int,
    pid_file: Path | None,
) -> None:
    """Write Mosquitto's configuration: mutual TLS, rules for devices and the city, revocations."""
    from agent.cityos.pki.broker import CONFIG
    from agent.cityos.usecases.authority import configure_broker

    if any(c in str(directory.absolute()) for c in "\r\n"):
        raise UsageError("--directory: the path must be on one line")
    with office(places) as opened:
        configure_broker(
            opened,
            directory,
            now_ms(),
            hosts=hosts,
            port=port,
            bind=bind,
            connections=max_connections,
            message_bytes=max_message_bytes,
            pid_file=pid_file,
        )
    click.echo(f"include it from mosquitto.conf: include_dir {directory.absolute()}")
    click.echo(f"and let its user read it: chown -R mosquitto: {directory.absolute()} ({CONFIG})")
