"""``kaopass city``: run the reference city side, and look at what it holds."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from agent.base.errors import CityError
from agent.cli.city.common import city_options, thresholds, time_text
from agent.cli.city.upkeep import backup, prune, quarantine, replay
from agent.cli.common import json_option, print_json
from agent.cli.lazy import LazyGroup

if TYPE_CHECKING:
    from agent.cityos.events.store import Store
    from agent.cityos.service.loop import CityService, Handler
    from agent.cityos.usecases.office import CityPlaces

_POLL_SECONDS = 0.2

_file = click.Path(path_type=Path, dir_okay=False)


# From files of their own, imported only when called.
LAZY = {
    "ca": "agent.cli.city.ca:ca",
    "est": "agent.cli.city.ca:est",
    "broker-config": "agent.cli.city.ca:broker_config",
    "claim": "agent.cli.city.device:claim",
    "device": "agent.cli.city.device:device",
    "command": "agent.cli.city.command:command",
    "settings": "agent.cli.city.settings:settings",
    "resident": "agent.cli.city.residents.resident:resident",
    "consent": "agent.cli.city.residents.consent:consent",
    "gallery": "agent.cli.city.residents.gallery:gallery",
    "enrolments": "agent.cli.city.residents.keys:enrolments",
    "keys": "agent.cli.city.residents.keys:keys",
}


@click.group("city", cls=LazyGroup, lazy=LAZY)
def command() -> None:
    """The reference city side: commits each event once and acknowledges it."""


@command.command("serve")
@click.option(
    "--broker",
    required=True,
    envvar="KAOPASS_CITY_BROKER",
    metavar="ADDRESS",
    help="mqtt://[user:password@]host:port, or mqtts:// for TLS.",
)
@city_options(keys=True, database=True)
@click.option("--share", default="", help="Divide the work with the workers of this name.")
@click.option(
    "--protocol",
    type=click.Choice(["5", "3.1.1"]),
    default="5",
    show_default=True,
    help="MQTT version.",
)
@click.option("--ca", type=_file, help="Authority of the broker; default: the system's.")
@click.option("--certificate", type=_file, help="This side's certificate.")
@click.option("--key", type=_file, help="Its private key.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Answer Prometheus on 127.0.0.1 at this port.",
)
def serve(
    places: CityPlaces,
    broker: str,
    share: str,
    protocol: Literal["5", "3.1.1"],
    ca: Path | None,
    certificate: Path | None,
    key: Path | None,
    metrics_port: int | None,
) -> None:
    """Take events from the broker, commit them, acknowledge them; until SIGTERM or Ctrl-C.

    With the authority's command key (command.key and command.pem in --ca-directory) it also signs
    commands and settings for devices, with the whole authority there it serves galleries and takes
    enrolments. Without either it only asks devices that were never provisioned for what is missing.
    Workers that serve galleries must share that directory, so they run on one machine.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from agent.cityos.events.store import Store
    from agent.cityos.service.app import build_city, command_signer, parse_broker

    found = parse_broker(broker, protocol=protocol, ca=ca, certificate=certificate, key=key)
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store(places.database)))
        signer = command_signer(places.ca_directory)
        handlers = _galleries(stack, places)
        service = build_city(found, store, share=share, handlers=handlers, signer=signer)
        stop_metrics = _serve_metrics(service, store, metrics_port)
        service.start()
        announced = False
        while not stop.wait(_POLL_SECONDS):
            if service.ready and not announced:
                announced = True
                signs = ", signs commands" if signer is not None else ""
                click.echo(f"city side ready: broker {found.host}:{found.port}{signs}")
        service.stop()
        stop_metrics()


def _galleries(stack: ExitStack, places: CityPlaces) -> list[Handler]:
    """What serves galleries, running, if there is an authority; *stack* ends it."""
    if not (places.ca_directory / "issuing.key").exists():
        return []
    from agent.cityos.service.app import build_galleries
    from agent.cityos.usecases.city import open_city

    handler = build_galleries(stack.enter_context(open_city(places)), thresholds())
    handler.start()
    stack.callback(handler.stop)
    return [handler]


@command.command("events")
@city_options(ca=False, database=True)
@click.option("--device", help="Only those of this device.")
@click.option("--since", default=0, metavar="SEQ", help="Only those with a greater number.")
@click.option("--limit", default=100, show_default=True, help="At most so many, the newest.")
@click.option("--kind", "kinds", multiple=True, help="Only of this kind; may be repeated.")
@json_option
def events(
    places: CityPlaces,
    device: str | None,
    since: int,
    limit: int,
    kinds: tuple[str, ...],
    as_json: bool,
) -> None:
    """List committed events in the order they came; JSON is one object a line."""
    from agent.cityos.events.store import Store

    with closing(Store(places.database, create=False)) as store:
        rows = store.events(device, since, limit, kinds)
    if not rows and not as_json:
        click.echo("no such events" if device or since or kinds else "no events yet")
    for row in rows:
        if as_json:
            print_json(row)
            continue
        wall_ms = row["wall_ms"] if row["corrected_ms"] is None else row["corrected_ms"]
        where = "/".join(part for part in (row["place"], row["door"], row["stop"]) if part)
        click.echo(
            f"{row['device']} {row['epoch'][:8]} {row['seq']:>7}  {time_text(wall_ms)} "
            f"{row['clock']:<5}  {row['kind']:<9}  {_about(row)}  {where}".rstrip()
        )


def _about(row: dict[str, Any]) -> str:
    """Whom an event is about, or what it says beside where and when."""
    if row["body"] is None or row["person"]:
        return str(row["person"][:12])
    told = {name: value for name, value in row["body"].items() if name != "place"}
    return json.dumps(told, ensure_ascii=False)


@command.command("devices")
@city_options(ca=False, database=True)
@json_option
def devices(places: CityPlaces, as_json: bool) -> None:
    """Every device that ever spoke: whether it is online, and how complete its events are."""
    from agent.cityos.events.store import Store

    with closing(Store(places.database, create=False)) as store:
        rows = store.devices()
    if not rows and not as_json:
        click.echo("no device has spoken yet")
    for row in rows:
        if as_json:
            print_json(
                {
                    "device": row.name,
                    "online": row.online,
                    "last_seen_ms": row.last_seen_ms,
                    "software": row.software,
                    "connection": row.connection,
                    "events": row.events,
                    "rejected": row.rejected,
                    "gaps": row.gaps,
                    "epochs": row.epochs,
                    "lag": row.lag,
                    "unread": row.unread,
                    "alarms": list(row.alarms),
                }
            )
            continue
        upto = ", ".join(f"{epoch[:8]} to {end}" for epoch, end in row.epochs.items())
        click.echo(
            f"{row.name:<20} {'online' if row.online else 'offline':<7}  "
            f"seen {time_text(row.last_seen_ms)}  {row.events} events, {row.lag} behind, "
            f"{row.rejected} rejected, {row.gaps} gaps  complete: {upto or 'nothing yet'}"
        )
        for alarm in row.alarms:
            click.echo(f"{'':<20} ALARM {alarm}")


def _serve_metrics(service: CityService, store: Store, port: int | None) -> Callable[[], None]:
    """Returns what ends it."""
    if port is None:
        return lambda: None
    try:
        from agent.cityos.service.metrics import CityCollector, serve_metrics
    except ImportError as error:
        raise CityError(
            "metrics need prometheus-client, which is not installed; "
            "install it with: pip install 'kaopass[city]'"
        ) from error
    return serve_metrics(CityCollector(lambda: service.status, store.pulses), port)


for upkeep in (quarantine, replay, prune, backup):
    command.add_command(upkeep)
