"""Builds what keeps a device in touch with its city: the link, the sync thread and its duties."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent import __version__
from agent.base.audit import AuditLog
from agent.base.errors import KaopassError
from agent.base.ports import Duty
from agent.base.retry import Backoff
from agent.base.values import Message, Standing
from agent.hw.net.mqtt import MqttLink
from agent.link.control.commanded import Commands, Ending, Handler
from agent.link.control.configuration import Configuration
from agent.link.control.steering import Steering, TrustAnchor
from agent.link.control.trustedtime import TrustedTime
from agent.link.uplink.state import SyncState
from agent.link.uplink.supervisor import JournalFactory, Supervisor
from agent.link.uplink.uplink import UplinkLimits
from agent.protocol.commands import NOTED
from agent.protocol.topics import down_topics
from agent.settings.model import Settings
from agent.wiring.provisioning import broker_tls

log = logging.getLogger(__name__)

NOBODY = "this agent does not run under systemd, so nobody would start it again"


def open_sync(
    settings: Settings,
    *,
    journal: JournalFactory,
    time: TrustedTime,
    handlers: Mapping[str, Handler],
    steering: Steering | None,
    audit: AuditLog,
    end: Callable[[str], None],
    supervised: bool,
    duties: Sequence[Duty] = (),
    standing: Callable[[], Standing] = Standing,
) -> Supervisor:
    """The sync thread of the device that *settings* describe, not started.

    *handlers* do commands. *end* ("reload" or "restart") has the agent end as it runs and returns
    at once; without *steering* there is nobody to begin it anew, so it is not called. *supervised*
    says that somebody starts the process again. *duties* are further ones, whose part of what is in
    force *standing* tells.
    """
    sync, device = settings.sync, settings.device.name
    trust, notes = TrustAnchor(settings.identity_directory), _Log(audit)
    state = SyncState(settings.state_directory / "sync.json")
    duties = list(duties)
    endings: dict[str, Ending] = {}
    if steering is not None:
        nobody = [] if supervised else [NOBODY]
        endings["reload"] = Ending(steering.reload_problems, lambda: end("reload"))
        endings["restart"] = Ending(lambda: nobody, lambda: end("restart"))
        duties.append(
            Configuration(
                device,
                steering,
                trust=trust,
                time=time,
                reload=lambda: end("reload"),
                note=notes.settings,
            )
        )
    topics = [*down_topics(device), *(topic for duty in duties for topic in duty.topics)]

    def in_force() -> Standing:
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
            device,
            state,
            trust=trust,
            time=time,
            handlers=handlers,
            endings=endings,
            note=notes.command,
        ),
        duties=duties,
        standing=in_force,
    )


class _Log:
    """What the city did to this device, for who asks later; a full disk keeps it from nothing."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    def command(self, command: str, command_id: str, state: str) -> None:
        if command in NOTED:
            self._append(f"command.{state}", f"{command} {command_id}")

    def settings(self, version: int, accepted: bool) -> None:
        self._append("settings.accepted" if accepted else "settings.refused", str(version))

    def _append(self, action: str, what: str) -> None:
        try:
            self._audit.append(action, what=what)
        except KaopassError as error:
            log.error("%s is not in the audit log: %s", action, error)


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
    """The command ``revoke-now``, done by *revoke*.

    *revoke* gets what ``records.key_of`` makes of a resident's id; it destroys all this device
    holds of them and says whether there was anything. It raises KaopassError if old data could not
    be overwritten.
    """
    return lambda arguments: {"found": revoke(arguments["key"])}


def telling(tell: Callable[[], Mapping[str, Any]]) -> Handler:
    """A command that is answered by *tell*."""
    return lambda _: tell()
