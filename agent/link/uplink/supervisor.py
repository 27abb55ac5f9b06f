"""The sync thread: connects, keeps the uplink turning, and outlives whatever goes wrong.

It owns its journal connection (opened in its thread) and its link (a new one each time). Broker,
network, journal and even a defect only ever cost a wait; ``status`` tells the rest of the agent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from agent.base.errors import KaopassError, LinkError, MessageError
from agent.base.ports import Duty, Link, Outbox
from agent.base.retry import Backoff
from agent.base.values import LinkDown, LinkUp, Message, Standing
from agent.link.control.commanded import Commands
from agent.link.uplink.duties import WatchedDuty
from agent.link.uplink.state import SyncState
from agent.link.uplink.uplink import Totals, Uplink, UplinkLimits
from agent.protocol.commands import Replay
from agent.protocol.messages import Birth, Offset, encode_birth, encode_will
from agent.protocol.topics import ACKS, EVENTS, STATE

log = logging.getLogger(__name__)

JournalFactory = Callable[[], AbstractContextManager[Outbox]]
LinkFactory = Callable[[Message], Link]  # given the will

TURN_SECONDS = 0.1  # also how late an append or a stop is noticed
_STABLE_MS = 60_000  # a connection that held this long was no accident
_FLUSH_MS = 1_000  # an orderly end waits this long for the broker to take what was said last
_COUNT_MS = 500  # how often the journal is asked how much waits
# How often the retained birth is renewed while events come: from it a city side that was restored
# from a backup learns what it lacks, even if the device has nothing new to send.
BIRTH_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Sync at a glance, since the start of this process.

    ``pending`` is an upper bound of the events not acknowledged, ``in_flight`` counts batches,
    ``last_ack_mono_ms`` is None before the first ack. ``reason`` says why it is not connected.
    ``restarts`` counts defects survived: it should stay 0, as ``duty_failures`` should.
    ``commands`` were carried out, ``replayed`` events were sent again because the city asked.
    """

    connected: bool = False
    pending: int = 0
    in_flight: int = 0
    acked: int = 0
    quarantined: int = 0
    rejected_messages: int = 0
    last_ack_mono_ms: int | None = None
    reconnects: int = 0
    reason: str = "not started"
    restarts: int = 0
    commands: int = 0
    replayed: int = 0
    duty_failures: int = 0


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class Supervisor:
    """Runs sync in its own thread from ``start`` to ``stop``."""

    def __init__(
        self,
        device: str,
        software: str,
        *,
        journal: JournalFactory,
        link: LinkFactory,
        state: SyncState,
        backoff: Backoff,
        limits: UplinkLimits = UplinkLimits(),  # noqa: B008 - frozen
        birth_seconds: float = BIRTH_SECONDS,
        commands: Commands | None = None,
        duties: Sequence[Duty] = (),
        standing: Callable[[], Standing] = Standing,
    ) -> None:
        """*link* must also listen to the topics of *duties*; *standing* goes into each birth.

        *commands* is the duty that obeys the city; by default that of a device which was never
        provisioned.
        """
        self._device = device
        self._software = software
        self._open_journal = journal
        self._make_link = link
        self._state = state
        self._backoff = backoff
        self._limits = limits
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._status = SyncStatus()
        self._trouble = ""
        self._totals = Totals()
        self._link: Link | None = None
        self._connections = 0
        self._counted_ms = -_COUNT_MS
        self._birth_ms = round(birth_seconds * 1000)
        self._commands = commands or Commands(device, state)
        self._commands.replay_with(self._replay)
        self._duties = [WatchedDuty(duty) for duty in (self._commands, *duties)]
        self._standing = standing
        self._uplink: Uplink | None = None
        self._born_as: Birth | None = None
        self._born_ms = 0

    @property
    def status(self) -> SyncStatus:
        """The present state; safe from any thread."""
        return self._status

    def start(self) -> None:
        """Begin; returns at once."""
        if self._thread is not None:
            raise RuntimeError("sync was already started")
        # A daemon: a name look-up that hangs must not keep the agent from ending.
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 2.0) -> bool:
        """End within *seconds*; False if the thread is stuck in a connection attempt."""
        self._stop.set()
        if self._thread is None:
            return True
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning("sync is still connecting; it ends with the attempt")
            return False
        return True

    def _run(self) -> None:
        seconds = self._backoff.at_start()
        if seconds:
            self._update(reason=f"waits {seconds:.0f} s: the last run ended without a connection")
        self._stop.wait(seconds)
        while not self._stop.is_set():
            try:
                with self._open_journal() as outbox:
                    self._with_journal(outbox)
            except KaopassError as error:
                self._failed(str(error))
            # Whatever defect there is, events must go on leaving: log it whole, and begin anew.
            except Exception as error:
                log.exception("sync failed unexpectedly and starts again")
                self._update(restarts=self._status.restarts + 1)
                self._failed(f"defect: {type(error).__name__}")
        self._update(connected=False, in_flight=0, reason="stopped")

    def _with_journal(self, outbox: Outbox) -> None:
        uplink = Uplink(outbox, self._publish_batch, self._limits, self._totals)
        self._uplink = uplink
        while not self._stop.is_set():
            connection = self._state.next_connection()
            link = self._make_link(STATE.message(self._device, encode_will(connection)))
            self._link = link
            try:
                link.open()
                reason = self._connection(link, uplink, connection)
            except LinkError as error:
                reason = str(error)
            finally:
                uplink.disconnected()
                for duty in self._duties:
                    duty.disconnected()
                link.close()
            if not self._stop.is_set():
                self._failed(reason, uplink)

    def _publish_batch(self, payload: bytes) -> None:
        if self._link is not None:
            self._link.publish(EVENTS.of(self._device), payload)

    def _connection(self, link: Link, uplink: Uplink, connection: int) -> str:
        """Work on one connection until it ends; returns why it did."""
        up_since_ms: int | None = None
        while not self._stop.is_set():
            for event in link.turn(TURN_SECONDS):
                if isinstance(event, LinkDown):
                    return event.reason
                if isinstance(event, LinkUp):
                    up_since_ms = _mono_ms()
                    self._born(link, uplink, connection)
                elif event.topic == ACKS.of(self._device):
                    self._acked(uplink, event.payload)
                else:
                    self._on_duty(event)
            if up_since_ms is not None:
                now_ms = _mono_ms()
                uplink.turn(now_ms)
                self._count(uplink, now_ms)
                self._renew_birth(link, uplink, connection, now_ms)
                for duty in self._duties:
                    duty.turn(now_ms)
                if now_ms - up_since_ms >= _STABLE_MS:
                    self._backoff.succeeded()
        if up_since_ms is not None:
            # An orderly end makes the broker drop the will, so say it ourselves.
            self._say_state(link, encode_will(connection))
            _flush(link)
        return "stopped"

    def _on_duty(self, message: Message) -> None:
        for duty in self._duties:
            if duty.listens_to(message.topic) and not duty.receive(message):
                self._totals.rejected_messages += 1

    def _born(self, link: Link, uplink: Uplink, connection: int) -> None:
        uplink.connected()
        self._publish_birth(link, self._birth(uplink, connection))
        if self._trouble:
            log.info("connected to the city again")
        self._trouble = ""
        self._connections += 1
        for duty in self._duties:
            duty.connected(link.publish)
        self._update(connected=True, reason="", reconnects=self._connections - 1)

    def _birth(self, uplink: Uplink, connection: int) -> Birth:
        bounds = uplink.bounds()
        clocks = tuple(Offset(*offset) for offset in uplink.offsets())
        standing = self._standing()
        return Birth(
            connection,
            bounds[-1].epoch,
            bounds,
            self._software,
            gallery_version=standing.gallery_version,
            gallery_root=standing.gallery_root,
            settings_version=standing.settings_version,
            clocks=clocks,
        )

    def _publish_birth(self, link: Link, birth: Birth) -> None:
        self._say_state(link, encode_birth(birth))
        self._born_as, self._born_ms = birth, _mono_ms()

    def _say_state(self, link: Link, payload: bytes) -> None:
        link.publish(STATE.of(self._device), payload, retain=STATE.retained)

    def _renew_birth(self, link: Link, uplink: Uplink, connection: int, now_ms: int) -> None:
        """Say it again at once when a clock was found or what is in force has changed, and now and
        then when events came."""
        born = self._born_as
        if born is None or now_ms != self._counted_ms:
            return  # as often as things are counted
        birth = self._birth(uplink, connection)
        late = now_ms - self._born_ms >= self._birth_ms
        # All that differs but for the events, which come all the time.
        told = replace(born, epoch=birth.epoch, epochs=birth.epochs)
        if birth != told or (late and birth != born):
            self._publish_birth(link, birth)

    def _acked(self, uplink: Uplink, payload: bytes) -> None:
        if uplink.receive_ack(payload, _mono_ms()):
            self._backoff.succeeded()  # the whole way works
            self._commands.time.learn(self._totals.server_time_ms)

    def _replay(self, replay: Replay) -> int:
        """For the duty that obeys the city. Raises MessageError."""
        link, uplink, born = self._link, self._uplink, self._born_as
        if link is None or uplink is None or born is None:
            raise MessageError("nothing can be sent again before the first connection")
        count = uplink.replay(replay)
        log.info("the city asked for events again: %d go out", count)
        # Whoever asks lacks something, perhaps more than it knows: tell it what there is now.
        self._publish_birth(link, self._birth(uplink, born.connection))
        return count

    def _count(self, uplink: Uplink, now_ms: int) -> None:
        landed = self._status.in_flight > 0 and uplink.in_flight == 0
        if landed or now_ms - self._counted_ms >= _COUNT_MS:
            self._counted_ms = now_ms
            uplink.look_back()
            self._update(pending=uplink.pending())
        self._update(
            in_flight=uplink.in_flight,
            acked=self._totals.acked,
            quarantined=self._totals.quarantined,
            rejected_messages=self._totals.rejected_messages,
            last_ack_mono_ms=self._totals.last_ack_mono_ms,
            replayed=self._totals.replayed,
            commands=self._commands.carried_out,
            duty_failures=sum(duty.failures for duty in self._duties),
        )

    def _failed(self, reason: str, uplink: Uplink | None = None) -> None:
        """Note why, say a loss once, and wait; meanwhile count what piles up."""
        if not self._trouble:
            log.warning("sync is down: %s", reason)
        elif reason != self._trouble:
            log.info("sync is still down: %s", reason)
        self._trouble = reason
        self._update(connected=False, reason=reason)
        until_ms = _mono_ms() + round(self._backoff.failed() * 1000)
        while (left_ms := until_ms - _mono_ms()) > 0:
            if uplink is not None:
                self._count(uplink, _mono_ms())
            if self._stop.wait(min(left_ms, _COUNT_MS) / 1000):
                return

    def _update(self, **changes: Any) -> None:
        self._status = replace(self._status, **changes)


def _flush(link: Link) -> None:
    """Let the broker take over what was said last, an answer perhaps; a dead one is not waited for.

    Raises LinkError.
    """
    until_ms = _mono_ms() + _FLUSH_MS
    while link.unanswered and _mono_ms() < until_ms:
        if any(isinstance(event, LinkDown) for event in link.turn(TURN_SECONDS)):
            return
