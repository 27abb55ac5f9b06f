"""Takes settings from the city: signed, for what is in force now, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from agent.base.errors import KaopassError, MessageError
from agent.base.ports import Publish
from agent.link.control.trustedtime import TrustedTime
from agent.protocol import topics
from agent.protocol.control import Config, SettingsReport, encode_report, read_config
from agent.protocol.signed import Trust

log = logging.getLogger(__name__)


class CitySettings(Protocol):
    """The device's keeper of what the city set."""

    def report(self) -> SettingsReport:
        """What is in force, and why the newest is not. Quick; any thread."""

    def offer(self, config: Config) -> bool:
        """Accept *config*, put on the disk, or refuse it; ``report`` then says why.

        True when the agent must begin anew with it. What was judged before is left at that, for
        the broker says it again at every connection. Raises MessageError for an older version.
        """


def unnoted(version: int, accepted: bool) -> None:
    """Nobody keeps a log."""
    del version, accepted


class Configuration:
    """A duty of the sync thread. *reload* has the agent begin anew, and returns at once."""

    def __init__(
        self,
        device: str,
        settings: CitySettings,
        *,
        trust: Callable[[], Trust | None],
        time: TrustedTime,
        reload: Callable[[], None],
        note: Callable[[int, bool], None] = unnoted,
    ) -> None:
        """*note* is told (version, whether accepted) of every version that was judged."""
        self._note = note
        self._device = device
        self._settings = settings
        self._trust = trust
        self._time = time
        self._reload = reload
        self._publish: Publish | None = None
        self._told: SettingsReport | None = None

    @property
    def topics(self) -> Sequence[str]:
        return (topics.CONFIG.of(self._device),)

    def connected(self, publish: Publish) -> None:
        self._publish, self._told = publish, None
        self.turn(0)

    def disconnected(self) -> None:
        self._publish = None

    def turn(self, now_ms: int) -> None:
        """Report when something has changed."""
        del now_ms
        report = self._settings.report()
        if self._publish is not None and report != self._told:
            said = topics.REPORT.message(self._device, encode_report(report))
            self._publish(said.topic, said.payload, retain=said.retain)
            self._told = report

    def receive(self, topic: str, payload: bytes) -> None:
        del topic
        if not payload:
            return  # somebody cleared what the broker kept
        try:
            trust = self._trust()
        except KaopassError as error:
            raise MessageError(f"settings cannot be checked: {error}") from error
        if trust is None:
            raise MessageError("settings are only taken by a device that was provisioned")
        config = read_config(payload, trust, self._device, wall_ms=self._time.now_ms() or 0)
        before = self._settings.report()
        accepted = self._settings.offer(config)
        if accepted or self._settings.report() != before:
            self._note(config.version, accepted)
        self.turn(0)
        if accepted:
            log.info("the city's settings %d are taken over", config.version)
            self._reload()
