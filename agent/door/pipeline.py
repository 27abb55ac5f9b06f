"""The loop at the door: newest frame, decision, event, journal, then the lamp - in that order."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from agent.base.errors import JournalError, ModelError
from agent.base.events import StoredEvent
from agent.base.values import Decision, DoorSignal, Frame, Outcome, TrackedFace
from agent.door.inputs import Inputs
from agent.door.recogniser import Recogniser, Step
from agent.door.recorder import Recorder
from agent.vision.colour import ColourWatch
from agent.vision.quality import TOO_SMALL

TURN_SECONDS = 0.25  # longest wait for a frame, so that the loop shows signs of life without one


class FrameSource(Protocol):
    """Where frames come from; ``agent.vision.source`` in a running agent."""

    @property
    def state(self) -> str:
        """ "lost" while a live camera is gone, "ended" once a file is over."""

    def get(self, timeout_seconds: float) -> Frame | None:
        """The newest frame not yet taken, or None when there is none in time.

        Raises CameraError when a file cannot be opened or is damaged.
        """


class Teller(Protocol):
    """Tells the person at the door."""

    def show(self, signal: DoorSignal, stored: StoredEvent | None) -> None: ...


class DoorGallery(Protocol):
    """Who can be matched at this moment; ``agent.door.faces`` in a running agent."""

    @property
    def on(self) -> bool:
        """False: there can be no match, and everybody is offered the usual way at once."""

    def admits(self, person: str) -> bool:
        """Whether a match of *person* counts."""

    def nickname(self, person: str) -> str:
        """What the door may call *person*; "" for nothing."""

    def between(self, recogniser: Recogniser) -> None:
        """Between two frames: have *recogniser* search whoever is here now."""


class Overseer(Protocol):
    """Whoever looks after the loop: its figures and alarms, and that it lives."""

    def count(self, name: str, by: int = 1) -> None: ...

    def alarm(self, key: str, text: str) -> None: ...

    def clear(self, key: str) -> None: ...

    def turn(self) -> None:
        """The loop begins another round, several a second."""

    def saw(self, step: Step) -> None:
        """This came of a frame, and was acted on."""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a door behaves.

    A face in the presentation zone for ``timeout_ms`` without a match is offered the usual way,
    when its turn has come; an answer is shown for ``show_ms``. ``goodbye``: this is the way out.
    """

    timeout_ms: int
    show_ms: int
    on_journal_failure: Literal["refuse", "admit"]
    goodbye: bool


@dataclass(slots=True)
class _Visit:
    """One track at the door."""

    since_ms: int
    outcome: Outcome | None = None
    recorded: str | None = None  # the person whose event is in the journal
    told: str = ""


class Pipeline:
    """Orders the stages and nothing else. Runs in one thread."""

    def __init__(
        self,
        source: FrameSource,
        inputs: Inputs,
        recogniser: Recogniser,
        recorder: Recorder,
        gallery: DoorGallery,
        teller: Teller,
        overseer: Overseer,
        conduct: Conduct,
    ) -> None:
        self._source = source
        self._inputs = inputs
        self._recogniser = recogniser
        self._recorder = recorder
        self._gallery = gallery
        self._teller = teller
        self._overseer = overseer
        self._conduct = conduct
        self._success = "goodbye" if conduct.goodbye else "welcome"
        self._visits: dict[int, _Visit] = {}
        self._welcomed_ms = -math.inf  # when somebody was last let through
        self._camera_lost = False
        self._model_lost = False
        self._journal_lost = False
        self._colours = ColourWatch()

    def run(self, stop: threading.Event, *, until_end: bool = True) -> None:
        """Work until *stop* is set or, with *until_end*, until a file source is over."""
        while not stop.is_set():
            self._overseer.turn()
            self._gallery.between(self._recogniser)
            # Asked before the frame: once it has ended, nothing can come after the last one.
            state = self._source.state
            self._note_camera(lost=state == "lost")
            frame = self._source.get(TURN_SECONDS)
            self._take_inputs()
            if frame is not None:
                self.take(frame)
            elif state == "ended":
                self._finish()
                if until_end:
                    return
                stop.wait(TURN_SECONDS)
        self._finish()

    def _take_inputs(self) -> None:
        """What happened before this frame is known when it is judged."""
        dropped = self._inputs.hand_over()
        if dropped:
            self._overseer.count("inputs_dropped", dropped)

    def _note_camera(self, *, lost: bool) -> None:
        """Say once that nobody can be seen, and once that they can again."""
        if lost != self._camera_lost:
            self._camera_lost = lost
            self._teller.show(DoorSignal("out_of_service" if lost else "ready"), None)

    def _note_model(self, error: ModelError | None) -> None:
        """A network that stops giving answers is an alarm and a lamp, never "nobody there"."""
        if error is not None:
            self._overseer.count("model_failures")
            self._overseer.alarm("model", str(error))
            self._finish()
        if (error is not None) != self._model_lost:
            self._model_lost = error is not None
            self._teller.show(DoorSignal("out_of_service" if self._model_lost else "ready"), None)
            if error is None:
                self._overseer.clear("model")

    def _note_colours(self) -> None:
        if self._colours.swapped:
            self._overseer.alarm(
                "colours",
                "faces look blue: the camera seems to give red and blue the wrong way round; "
                "check the pixel format of its driver or pipeline",
            )
        else:
            self._overseer.clear("colours")

    def _finish(self) -> None:
        """No more frames: everybody at the door has left."""
        for decision in self._recogniser.finish():
            self._act(decision)
        for track in list(self._visits):
            self._leave(track)

    def take(self, frame: Frame) -> None:
        """Run one frame through the line and act on what it brought."""
        self._overseer.count("frames")
        try:
            step = self._recogniser.process(frame)
        except ModelError as error:
            self._note_model(error)
            return
        self._note_model(None)
        for seen in step.tracks.seen:
            self._overseer.count("faces")
            if seen.quality.reason:
                self._overseer.count(f"faces_{seen.quality.reason}")
            else:
                self._colours.saw(seen.track, frame.image, seen.face)
            # A bystander far off is not waiting for an answer.
            if seen.track not in self._visits and seen.quality.reason != TOO_SMALL:
                self._visits[seen.track] = _Visit(since_ms=frame.t_ms)
        self._note_colours()
        for decision in step.decisions:
            self._act(decision)
        self._offer_fallback(step.tracks.seen, frame)
        for track in step.tracks.ended:
            self._leave(track)
        self._overseer.saw(step)

    def _act(self, decision: Decision) -> None:
        visit = self._visits.setdefault(decision.track, _Visit(since_ms=decision.t_ms))
        if decision.person is not None and not self._gallery.admits(decision.person):
            # Revoked after the search, or since this track was decided on: no event, no name.
            self._overseer.count("matches_not_admitted")
            decision = replace(decision, outcome=Outcome.UNKNOWN, person=None)
        if visit.recorded is not None and decision.person != visit.recorded:
            # The event stands, as a paper ticket would; the figure shows how often this happens.
            self._overseer.count("contradicted_after_event")
            visit.recorded = None
            # Who is only not shown to be alive has still the same face.
            if decision.outcome is not Outcome.REJECTED:
                # Whoever stands there now has been told nothing, and has waited since now.
                visit.told, visit.since_ms = "", decision.t_ms
        visit.outcome = decision.outcome
        if decision.outcome is Outcome.REJECTED:
            self._overseer.count(f"rejected_{decision.reason}")
        if decision.person is not None and visit.recorded is None:
            self._record(visit, decision.person, decision)

    def _record(self, visit: _Visit, person: str, decision: Decision) -> None:
        try:
            stored = self._recorder.record(person, decision.mono_ms)
        except JournalError as error:
            self._journal_failed(visit, person, error)
            return
        self._welcomed_ms = decision.t_ms
        visit.recorded = person
        if stored is None:
            self._tell(visit, DoorSignal("again", self._gallery.nickname(person)), None)
            return
        self._overseer.clear("journal")
        self._overseer.count("events")
        if self._journal_lost:
            # Else the lamp would be red again after the welcome.
            self._journal_lost = False
            self._teller.show(DoorSignal("ready"), None)
        self._tell(visit, DoorSignal(self._success, self._gallery.nickname(person)), stored)

    def _journal_failed(self, visit: _Visit, person: str, error: JournalError) -> None:
        # The visit stays unrecorded: the next look at this track tries the journal again.
        self._overseer.count("journal_failures")
        self._overseer.alarm("journal", str(error))
        if self._conduct.on_journal_failure == "admit":
            self._tell(visit, DoorSignal(self._success, self._gallery.nickname(person)), None)
        else:
            self._journal_lost = True
            self._tell(visit, DoorSignal("out_of_service"), None)

    def _offer_fallback(self, seen: Sequence[TrackedFace], frame: Frame) -> None:
        """Offer the usual way to those who have waited in vain, in the order of the queue.

        There is one lamp for all. The turn of those behind begins with the welcome of the one in
        front, which is shown in full first; and while the nearest face is still being looked at,
        nobody behind it is sent away - for as long again, should the nearest lose its track.
        """
        waiting = [(item, self._visits[item.track]) for item in seen if self._unanswered(item)]
        if not waiting:
            return
        if not frame.still and self._gallery.on:
            timeout_ms = self._conduct.timeout_ms
            turn_ms = frame.t_ms - self._welcomed_ms
            waited = [min(frame.t_ms - visit.since_ms, turn_ms) for _, visit in waiting]
            nearest = max(range(len(waiting)), key=lambda i: waiting[i][0].face.width)
            due = waited[nearest] >= timeout_ms or max(waited) >= 2 * timeout_ms
            if not due or turn_ms < self._conduct.show_ms:
                return
            waiting = [one for one, ms in zip(waiting, waited, strict=True) if ms >= timeout_ms]
        for _, visit in waiting:
            visit.told = "fallback"
        self._teller.show(DoorSignal("fallback"), None)

    def _unanswered(self, seen: TrackedFace) -> bool:
        visit = self._visits.get(seen.track)
        return visit is not None and visit.outcome is not Outcome.MATCH and not visit.told

    def _tell(self, visit: _Visit, signal: DoorSignal, stored: StoredEvent | None) -> None:
        if stored is None and visit.told == signal.name:
            return
        visit.told = signal.name
        self._teller.show(signal, stored)

    def _leave(self, track: int) -> None:
        self._colours.forget(track)
        visit = self._visits.pop(track, None)
        if visit is not None and visit.recorded is None and visit.outcome is Outcome.UNKNOWN:
            self._overseer.count("strangers")
