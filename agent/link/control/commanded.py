"""Carries out what the city commands: signed, in time, each once, over restarts and repeats.

A command is remembered on the disk by its id. Asked again, only the answer is repeated; one older
than all that is remembered is refused by its counter. What changes nothing when it is done twice
is remembered after the deed, so that a cut between the two does not lose it. ``reload`` and
``restart`` are remembered before, or they would come round for ever; that the device is back is
their outcome, told then.

A trusted time says whether a command is still meant. Before there is any, only what does no harm
late is done (``timeless`` in ``agent.protocol.commands``, which knows every command).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.base.errors import KaopassError, MessageError
from agent.base.ports import Publish
from agent.link.control.trustedtime import TrustedTime
from agent.link.uplink.state import Answered, SyncState
from agent.protocol import topics
from agent.protocol.commands import Replay
from agent.protocol.control import (
    MAX_REASON,
    MAX_RESULT_BYTES,
    Command,
    CommandResult,
    encode_result,
    read_command,
    read_unsigned,
)
from agent.protocol.signed import Trust

log = logging.getLogger(__name__)

MOST_AT_WORK = 8
_DETAILS_KEPT = 8  # of the newest answers, to be repeated whole while this process runs

Handler = Callable[[Any], Mapping[str, Any]]
"""Does a command, in a thread of its own; the detail of the answer, as JSON.

It gets the arguments as the command's specification reads them, for most a dict.

Raises KaopassError when it cannot be done, with the reason."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A command that ends the agent as it runs. ``check`` says why it must not be, if so."""

    check: Callable[[], Sequence[str]]
    end: Callable[[], None]


def unnoted(command: str, command_id: str, state: str) -> None:
    """Nobody keeps a log."""
    del command, command_id, state


def no_trust() -> Trust | None:
    """A device that was never provisioned."""
    return None


class Commands:
    """A duty of the sync thread. Without *trust* it takes what may be unsigned, a ``replay``.

    *trust* is asked at every command, since a certificate may be renewed; where it raises, nothing
    is taken.
    """

    def __init__(
        self,
        device: str,
        state: SyncState,
        *,
        trust: Callable[[], Trust | None] = no_trust,
        time: TrustedTime | None = None,
        handlers: Mapping[str, Handler] | None = None,
        endings: Mapping[str, Ending] | None = None,
        note: Callable[[str, str, str], None] = unnoted,
    ) -> None:
        """*note* is told (command, id, state) of every outcome."""
        self._note = note
        self._device = device
        self._state = state
        self._trust = trust
        self.time = time or TrustedTime()
        self._handlers = dict(handlers or {})
        self._endings = dict(endings or {})
        self._replay: Callable[[Replay], int] = _no_replay
        self._publish: Publish | None = None
        self._at_work: dict[str, Command] = {}
        self._finished: queue.SimpleQueue[tuple[Command, CommandResult]] = queue.SimpleQueue()
        self._outcomes: OrderedDict[str, CommandResult] = OrderedDict()
        self._unsaid: list[CommandResult] = []
        # Begun by an earlier run of the agent, which has ended as it was told.
        self._come_back = state.begun()
        self.carried_out = 0

    @property
    def topics(self) -> Sequence[str]:
        return (topics.COMMANDS.of(self._device),)

    def replay_with(self, replay: Callable[[Replay], int]) -> None:
        """*replay* sends events again, in the sync thread, and returns how many."""
        self._replay = replay

    def connected(self, publish: Publish) -> None:
        self._publish = publish
        for begun in self._come_back:
            self._state.remember(Answered(begun.id, begun.counter, begun.command, "done"))
            self._note(begun.command, begun.id, "done")
            self._unsaid.append(CommandResult(begun.id, "done"))
        self._come_back = []
        self._say_all()

    def disconnected(self) -> None:
        self._publish = None

    def turn(self, now_ms: int) -> None:
        """Tell what has been finished."""
        del now_ms
        while True:
            try:
                command, outcome = self._finished.get_nowait()
            except queue.Empty:
                break
            del self._at_work[command.id]
            self._finish(command, outcome)
        self._say_all()

    def receive(self, topic: str, payload: bytes) -> None:
        del topic
        try:
            trust = self._trust()
        except KaopassError as error:
            raise MessageError(f"a command cannot be checked: {error}") from error
        if trust is None:
            command = read_unsigned(payload, self._device)
        else:
            wall_ms = self.time.now_ms() or 0
            command = read_command(payload, trust, self._device, wall_ms=wall_ms)
        self._take(command, signed=trust is not None)
        self._say_all()

    def _take(self, command: Command, *, signed: bool) -> None:
        known = self._state.answered(command.id)
        if known is not None:
            again = self._outcomes.get(
                command.id, CommandResult(known.id, known.state, known.reason)
            )
            self._unsaid.append(again)
        elif command.id in self._at_work:
            self._unsaid.append(CommandResult(command.id, "received"))
        elif signed and command.counter <= self._state.floor:
            raise MessageError("a command is older than those this device remembers")
        elif signed and (late := self._late(command)) is not None:
            self._finish(command, late)
        else:
            self._begin(command)

    def _late(self, command: Command) -> CommandResult | None:
        now_ms = self.time.now_ms()
        if now_ms is None:
            if command.spec.timeless:
                return None
            return CommandResult(
                command.id, "failed", "this device does not know the time yet; command it again"
            )
        if now_ms >= command.issued_ms + 1_000 * command.ttl_seconds:
            return CommandResult(command.id, "expired")
        return None

    def _begin(self, command: Command) -> None:
        log.info("the city commands: %s", command.command)
        try:
            arguments = command.spec.arguments.read(command.arguments)
        except MessageError as error:
            self._finish(command, _failed(command, str(error)))
            return
        if command.command == "ping":
            self._finish(command, CommandResult(command.id, "done"))
        elif command.command == "replay":
            self._finish(command, self._replayed(command, arguments))
        elif command.command in self._endings:
            self._end(command, self._endings[command.command])
        elif command.command not in self._handlers:
            self._finish(command, _failed(command, f"this device has no {command.command}"))
        elif len(self._at_work) >= MOST_AT_WORK:
            raise MessageError(f"{MOST_AT_WORK} commands are at work: one more is not begun")
        else:
            self._at_work[command.id] = command
            self._unsaid.append(CommandResult(command.id, "received"))
            handler = self._handlers[command.command]
            # A daemon: what hangs must not keep the agent from ending.
            threading.Thread(
                target=self._work,
                args=(command, handler, arguments),
                name=command.command,
                daemon=True,
            ).start()

    def _work(self, command: Command, handler: Handler, arguments: Any) -> None:
        try:
            outcome = CommandResult(command.id, "done", detail=handler(arguments))
            if len(encode_result(outcome)) > MAX_RESULT_BYTES:
                outcome = _failed(command, f"the answer is over {MAX_RESULT_BYTES} bytes long")
        except KaopassError as error:
            outcome = _failed(command, str(error))
        # A defect there is the command's failure, not the device's.
        except Exception as error:
            log.exception("the command %s failed unexpectedly", command.command)
            outcome = _failed(command, f"defect: {type(error).__name__}")
        self._finished.put((command, outcome))

    def _replayed(self, command: Command, replay: Replay) -> CommandResult:
        try:
            count = self._replay(replay)
        except MessageError as error:
            return _failed(command, str(error))
        return CommandResult(command.id, "done", detail={"count": count})

    def _end(self, command: Command, ending: Ending) -> None:
        problems = ending.check()
        if problems:
            self._finish(command, _failed(command, "; ".join(problems)))
        elif not self._state.remember(
            Answered(command.id, command.counter, command.command, "received")
        ):
            self._finish(command, _failed(command, "it cannot be recorded: is the disk full?"))
        else:
            self.carried_out += 1
            self._unsaid.append(CommandResult(command.id, "received"))
            self._say_all()
            ending.end()

    def _finish(self, command: Command, outcome: CommandResult) -> None:
        self.carried_out += outcome.state == "done"
        self._state.remember(
            Answered(command.id, command.counter, command.command, outcome.state, outcome.reason)
        )
        self._note(command.command, command.id, outcome.state)
        self._outcomes[command.id] = outcome
        while len(self._outcomes) > _DETAILS_KEPT:
            self._outcomes.popitem(last=False)
        self._unsaid.append(outcome)

    def _say_all(self) -> None:
        """Answer what is still to be answered; what cannot be said now, the next time."""
        while self._unsaid and self._publish is not None:
            self._publish(topics.RESULTS.of(self._device), encode_result(self._unsaid[0]))
            self._unsaid.pop(0)


def _failed(command: Command, reason: str) -> CommandResult:
    printable = " ".join(reason.split())
    return CommandResult(command.id, "failed", printable[:MAX_REASON])


def _no_replay(_: Replay) -> int:
    raise MessageError("nothing can be sent again here")
