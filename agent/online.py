"""Builds what keeps a device in touch with its city: the link, the sync thread and its duties."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent import __version__
from agent.errors import MessageError
from agent.hw.mqtt import MqttLink
from agent.joining import broker_tls
from agent.ports import Clock, Duty
from agent.settings import Settings
from agent.steering import Steering, TrustAnchor
from agent.sync.backoff import Backoff
from agent.sync.commanded import Commands, Ending, Handler
from agent.sync.commands import down_topics
from agent.sync.configuration import Configuration
from agent.sync.state import SyncState
from agent.sync.supervisor import JournalFactory, Supervisor
from agent.sync.trustedtime import TrustedTime
from agent.sync.uplink import UplinkLimits
from agent.values import Message, Standing
from agent.wire.fields import fields, hexadecimal
from agent.wire.records import DIGEST_BYTES

NOBODY = "this agent does not run under systemd, so nobody would start it again"


def open_sync(
    settings: Settings,
    *,
    journal: JournalFactory,
    clock: Clock,
    handlers: Mapping[str, Handler],
    steering: Steering | None,
    end: Callable[[str], None],
    supervised: bool,
    duties: Sequence[Duty] = (),
    standing: Callable[[], Standing] = Standing,
) -> Supervisor:
    """The sync thread of the device that *settings* describe, not started.

    *handlers* do commands. *end* ("reload" or "restart") has the agent end as it runs and returns
    at once; without *steering* there is nobody to begin it anew, so it is not called. *supervised*
    says that somebody starts the process again. *duties* share the connection; *standing* says
    what the birth tells of the gallery.
    """
    sync, device = settings.sync, settings.device.name
    trust, time = TrustAnchor(settings.identity_directory), TrustedTime(clock.now)
    state = SyncState(settings.state_directory / "sync.json")
    duties = list(duties)
    endings: dict[str, Ending] = {}
    if steering is not None:
        nobody = [] if supervised else [NOBODY]
        endings["reload"] = Ending(steering.reload_problems, lambda: end("reload"))
        endings["restart"] = Ending(lambda: nobody, lambda: end("restart"))
        duties.append(
            Configuration(device, steering, trust=trust, time=time, reload=lambda: end("reload"))
        )
    topics = [*down_topics(device), *(topic for duty in duties for topic in duty.topics)]

    def whole_standing() -> Standing:
        version = 0 if steering is None else steering.report().settings_version
        return replace(standing(), settings_version=version)

    return Supervisor(
        device,
        __version__,
        journal=journal,
        link=lambda will: mqtt_link(settings, topics, will),
        state=state,
        backoff=Backoff(
            state, min_seconds=sync.retry_min_seconds, max_seconds=sync.retry_max_seconds
        ),
        limits=UplinkLimits(
            batch_events=sync.batch_events,
            batch_bytes=sync.batch_bytes,
            batch_seconds=sync.batch_seconds,
            inflight_batches=sync.inflight_batches,
            ack_timeout_seconds=sync.ack_timeout_seconds,
        ),
        commands=Commands(
            device, state, trust=trust, time=time, handlers=handlers, endings=endings
        ),
        duties=duties,
        standing=whole_standing,
    )


def mqtt_link(settings: Settings, topics: Sequence[str], will: Message) -> MqttLink:
    """A link to the broker of *settings* that listens to *topics*."""
    sync = settings.sync
    return MqttLink(
        sync.host,
        sync.port,
        client_id=settings.device.name,
        protocol=sync.protocol,
        tls=broker_tls(settings),
        username=sync.username,
        password=sync.password.get_secret_value(),
        keepalive_seconds=sync.keepalive_seconds,
        subscriptions=topics,
        will=will,
    )


def revoking(revoke: Callable[[bytes], bool]) -> Handler:
    """The command ``revoke-now {"key"}``, done by *revoke*.

    *revoke* gets what ``records.key_of`` makes of a resident's id; it destroys all this device
    holds of them and says whether there was anything. It raises KaopassError if old data could not
    be overwritten.
    """

    def handler(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        value = fields(arguments, ("key",), "revoke-now")["key"]
        return {"found": revoke(hexadecimal(value, "key", DIGEST_BYTES))}

    return handler


def without_arguments(tell: Callable[[], Mapping[str, Any]]) -> Handler:
    """A command that has none and is answered by *tell*."""

    def handler(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        if arguments:
            raise MessageError("this command has no arguments")
        return tell()

    return handler
