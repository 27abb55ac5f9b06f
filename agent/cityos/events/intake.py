"""From messages to committed events and true acks: what arrived together is committed together.

An event that does not parse is refused by itself; the rest of its batch flows. A batch that does
not parse at all cannot be answered: it is counted, and its device sends it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.base.events import UnknownEvent
from agent.base.values import Message
from agent.cityos.events.arrivals import Arrival
from agent.cityos.events.sequence import Key
from agent.cityos.events.store import Store
from agent.protocol import topics
from agent.protocol.control import (
    Command,
    decode_report,
    decode_result,
    encode_unsigned,
    sign_command,
    sign_config,
)
from agent.protocol.fields import FieldError
from agent.protocol.items import Lost, decode_item
from agent.protocol.messages import (
    Birth,
    Will,
    decode_state,
    encode_ack,
    identity,
    unpack,
)
from agent.protocol.signed import Signer

log = logging.getLogger(__name__)

TAKES = (topics.EVENTS, topics.RESULTS, topics.STATE, topics.REPORT)
_MOST_TOLD = 32  # kinds: more than will ever be new at once
_MOST_EPOCHS = 8  # in one batch: a device that was salvaged a few times; more is an attack


@dataclass(frozen=True, slots=True)
class IntakeStatus:
    """Counted since the start. ``events`` counts repeats too; ``refused`` are messages.

    ``asked`` counts commands to devices, most of them replays of what is missing; ``unread_events``
    those of kinds not known here, kept as they came.
    """

    events: int = 0
    rejected_events: int = 0
    refused_messages: int = 0
    stale_states: int = 0
    commits: int = 0
    asked: int = 0
    unread_events: int = 0


class Intake:
    """Takes what the link received; one thread."""

    def __init__(
        self,
        store: Store,
        wall_ms: Callable[[], int] | None = None,
        signer: Signer | None = None,
    ) -> None:
        """*signer* signs commands and settings; without one there are only unsigned replays."""
        self._store = store
        self._signer = signer
        self._wall_ms = wall_ms or (lambda: time.time_ns() // 1_000_000)
        self._events = self._rejected = self._refused = self._stale = self._commits = 0
        self._asked = self._unread = 0
        self._told: set[str] = set()  # kinds not known here, of which that was said

    @property
    def status(self) -> IntakeStatus:
        return IntakeStatus(
            *(self._events, self._rejected, self._refused, self._stale, self._commits),
            *(self._asked, self._unread),
        )

    def take(self, messages: Sequence[Message]) -> list[Message]:
        """Commit *messages* in one transaction and return the acks, to be published now.

        Raises CityError when nothing could be committed: then there is nothing to acknowledge.
        """
        now_ms = self._wall_ms()
        arrivals: dict[Key, Arrival] = {}
        states: list[tuple[str, Birth | Will, bool]] = []
        for message in messages:
            try:
                device, kind = topics.parse_topic(message.topic)
                if kind == topics.EVENTS.path:
                    self._sort(device, unpack(message.payload), arrivals)
                elif kind == topics.STATE.path:
                    if message.payload:  # else somebody cleared the retained birth
                        states.append((device, decode_state(message.payload), message.retain))
                elif kind == topics.RESULTS.path:
                    self._store.result(device, decode_result(message.payload), now_ms)
                elif kind == topics.REPORT.path:
                    if message.payload:
                        self._store.reported(device, decode_report(message.payload), now_ms)
                else:
                    raise MessageError("not a topic the city listens to")
            except MessageError as error:
                self._refused += 1
                if _worth_saying(self._refused):
                    log.warning(
                        "message %d refused, on %.80r: %s", self._refused, message.topic, error
                    )
        self._stale += self._store.states(states, now_ms).count(False)
        if not arrivals:
            return []
        acks = self._store.commit(arrivals, now_ms)
        self._commits += 1
        self._events += sum(len(arrival.events) for arrival in arrivals.values())
        return [topics.ACKS.message(device, encode_ack(ack)) for (device, _), ack in acks.items()]

    def due(self) -> list[Message]:
        """Commands and settings for devices, to be published now."""
        now_ms = self._wall_ms()
        commands = self._store.due(now_ms, signed=self._signer is not None)
        self._asked += len(commands)
        if commands:
            log.info("%d commands go out", len(commands))
        messages = [
            topics.COMMANDS.message(command.device, self._encoded(command)) for command in commands
        ]
        if self._signer is not None:
            for config in self._store.configs_due(now_ms):
                signed = sign_config(config, self._signer)
                messages.append(topics.CONFIG.message(config.device, signed))
        return messages

    def _encoded(self, command: Command) -> bytes:
        if self._signer is not None:
            return sign_command(command, self._signer)
        return encode_unsigned(command)

    def _sort(self, device: str, items: list[Any], arrivals: dict[Key, Arrival]) -> None:
        named: list[tuple[str, int, Any]] = []
        for item in items:
            try:
                named.append((*identity(item), item))
            except MessageError as error:
                self._rejected += 1
                if _worth_saying(self._rejected):
                    log.warning("an event of %s has no identity and is dropped: %s", device, error)
        if len({epoch for epoch, _, _ in named}) > _MOST_EPOCHS:
            raise MessageError(f"a batch holds events of more than {_MOST_EPOCHS} epochs")
        for epoch, seq, item in named:
            arrival = arrivals.setdefault((device, epoch), Arrival())
            try:
                found = decode_item(item)
                if isinstance(found, Lost):
                    arrival.lost.append(found)
                else:
                    arrival.events[seq] = found
                    if isinstance(found.event, UnknownEvent):
                        self._keep_unread(found.event.kind)
            except FieldError as error:
                arrival.rejected[seq] = error.code
                self._rejected += 1
                if _worth_saying(self._rejected):
                    log.warning("event %d of %s is refused: %s", seq, device, error)

    def _keep_unread(self, kind: str) -> None:
        self._unread += 1
        if kind not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(kind)
            log.warning("events of the kind %s, unknown here, are kept as they come", kind)


def _worth_saying(count: int) -> bool:
    """The 1st, 2nd, 4th, 8th ...: a flood of nonsense must not become one of log lines."""
    return count & (count - 1) == 0
