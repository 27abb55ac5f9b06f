"""``kaopass city ca|est|broker-config``: the city's authority, EST server and broker's rules."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from agent.base.errors import CityError, UsageError
from agent.cli.city.common import Office, ca_option, now_ms, office
from agent.cli.common import json_option, print_json

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
@ca_option
@host_option
@click.option("--name", default="kaopass city", show_default=True, help="What it is called.")
@json_option
def init(ca_directory: Path, hosts: tuple[str, ...], name: str, as_json: bool) -> None:
    """Make root and issuing key, the EST server's certificate and the first worker's.

    `root.key` is needed never again on this machine: move it somewhere offline.
    """
    from agent.cityos.pki.ca import Authority

    fingerprint = Authority.create(ca_directory, name).fingerprint
    with office(ca_directory) as opened:
        opened.audit.append("authority.made", actor=opened.actor, fingerprint=fingerprint)
        _server(opened, list(hosts))
        _worker(opened, "city-1")
    if as_json:
        print_json({"directory": str(ca_directory), "fingerprint": fingerprint})
        return
    click.echo(f"authority {name!r} in {ca_directory}\nfingerprint {fingerprint}")
    click.echo(f"keep {ca_directory / 'root.key'} offline; it signs nothing from day to day")


@ca.command("worker")
@ca_option
@click.argument("name", metavar="NAME")
def worker(ca_directory: Path, name: str) -> None:
    """Issue a certificate for another worker of the city side, e.g. city-2.

    The broker lets in one connection a certificate, so each `kaopass city serve` needs its own.
    """
    with office(ca_directory) as opened:
        path = _worker(opened, name)
        opened.publish()
    click.echo(f"--certificate {path} --key {path.with_suffix('.key')}")


@click.command("est")
@ca_option
@click.option("--listen", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - devices come from outside
@click.option("--port", default=8443, show_default=True, help="Port; 0 for any free one.")
@click.option(
    "--days",
    default=365.0,
    show_default=True,
    type=click.FloatRange(0.001, 825),
    help="How long a device's certificate lasts.",
)
def est(ca_directory: Path, listen: str, port: int, days: float) -> None:
    """Serve devices that enrol or renew (EST, RFC 7030), until SIGTERM or Ctrl-C."""
    import asyncio
    import signal

    try:
        from agent.cityos.pki.est import EstServer, server_context
    except ImportError as error:
        raise CityError(
            "the EST server needs h11, which is not installed; install it with: "
            "pip install 'kaopass[city]'"
        ) from error
    from agent.cityos.pki.desk import Desk

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with office(ca_directory) as opened:

        def issued(device: str) -> None:
            # One that was revoked before is barred by the rules still.
            del device
            opened.publish()

        desk = Desk(opened.authority, opened.registry, opened.audit, on_issued=issued, days=days)
        context = server_context(
            ca_directory / "est.pem", ca_directory / "est.key", ca_directory / "ca.pem"
        )

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
@ca_option
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
    ca_directory: Path,
    hosts: tuple[str, ...],
    directory: Path,
    port: int,
    bind: str,
    max_connections: int,
    max_message_bytes: int,
    pid_file: Path | None,
) -> None:
    """Write Mosquitto's configuration: mutual TLS, rules for devices and the city, revocations."""
    from agent.cityos.pki.broker import CONFIG, write_config

    if any(c in str(directory.absolute()) for c in "\r\n"):
        raise UsageError("--directory: the path must be on one line")
    with office(ca_directory) as opened:
        opened.audit.append("broker.configured", actor=opened.actor, host=hosts[0])
        write_config(
            directory,
            opened.authority,
            opened.registry,
            now_ms(),
            hosts=list(hosts),
            port=port,
            bind=bind,
            connections=max_connections,
            message_bytes=max_message_bytes,
            pid_file=pid_file,
        )
    click.echo(f"include it from mosquitto.conf: include_dir {directory.absolute()}")
    click.echo(f"and let its user read it: chown -R mosquitto: {directory.absolute()} ({CONFIG})")


def _server(opened: Office, hosts: list[str]) -> None:
    from agent.base.wholefile import write_file

    certificate, key = opened.authority.issue_server(hosts)
    folder = opened.authority.directory
    with _writing(folder):
        write_file(folder / "est.pem", certificate)
        write_file(folder / "est.key", key)
        write_file(folder / "ca.pem", opened.authority.certificates_pem())
    opened.audit.append("service.issued", actor=opened.actor, host=hosts[0])


def _worker(opened: Office, name: str) -> Path:
    from agent.base.wholefile import write_file

    certificate, key = opened.authority.issue_worker(name)
    folder = opened.authority.directory / "workers"
    with _writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        write_file(folder / f"{name}.key", key)
        write_file(folder / f"{name}.pem", certificate)
    opened.audit.append("service.issued", actor=opened.actor, worker=name)
    return folder / f"{name}.pem"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CityError(f"{folder}: cannot be written: {error.strerror or error}") from error
