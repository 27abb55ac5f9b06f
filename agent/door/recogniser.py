"""Frame to decisions: detect, track, judge, embed the best views, decide. No disk, no network.

The door (``agent.door.pipeline``), ``kaopass identify`` and the benchmarks all run this one path.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from agent.base.errors import ModelError
from agent.base.ports import FaceDetector, FaceEmbedder
from agent.base.values import Decision, Frame, Outcome, TrackedFace, Tracks, Vector
from agent.recognition.decision import CONTRADICTED, Decider, Rule, Search
from agent.recognition.transition import both
from agent.vision.bestshot import BestShots
from agent.vision.liveness import Liveness
from agent.vision.quality import QualityGate
from agent.vision.tracking import Tracker


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What one frame brought: its tracks, and the decisions made on it."""

    tracks: Tracks
    decisions: tuple[Decision, ...]


class Recogniser:
    """The vision and identity stages in order. One per camera; not thread-safe."""

    def __init__(
        self,
        detector: FaceDetector,
        embedder: FaceEmbedder,
        gate: QualityGate,
        decider: Decider,
        *,
        lost_ms: int,
        max_faces: int,
        max_frames: int,
        liveness: Liveness | None = None,
        former_embedder: FaceEmbedder | None = None,
    ) -> None:
        """*lost_ms* ends an unseen track, *max_faces* bounds the embeddings of one frame, and
        *max_frames* the views a track is decided on. With *liveness* a match is given only to a
        face that is shown to be alive; a stranger stays unknown, alive or not. With
        *former_embedder* two packs decide side by side: see ``use``."""
        self._detector = detector
        self._embedder = embedder
        self._gate = gate
        self._decider = decider
        self._former_embedder = former_embedder
        self._former: Decider | None = None
        self._tracker = Tracker(lost_ms)
        self._shots = BestShots(max_frames)
        self._max_faces = max_faces
        self._liveness = liveness
        self._after_still = False

    def use(self, search: Search, rule: Rule, former: tuple[Search, Rule] | None = None) -> None:
        """Decide against another gallery from now on; tracks in progress start anew.

        *former* is the gallery of those whom the former pack still decides on. Without it nothing
        is embedded by that pack, and it costs nothing.
        """
        self._decider.replace(search, rule)
        self._shots.forget_all()
        self._former = None if former is None else Decider(*former)

    def process(self, frame: Frame) -> Step:
        """Take one frame through all stages. Frames must come in the order of their ``t_ms``.

        Raises ModelError when a network stops giving answers.
        """
        over: tuple[int, ...] = ()
        if frame.still or self._after_still:
            # A photograph continues nothing, and nothing continues it.
            over = self._tracker.finish()
        before = self._end(over, still=self._after_still)
        self._after_still = frame.still
        faces = self._detector.detect(frame.image)
        numbers, ended = self._tracker.update(faces, frame.t_ms)
        seen = tuple(
            TrackedFace(number, face, self._gate.judge(frame.image, face))
            for number, face in zip(numbers, faces, strict=True)
        )
        for item in seen:
            self._decider.saw(frame, item)
            if self._former is not None:
                self._former.saw(frame, item)
        decisions = before + self._embed_and_decide(frame, seen)
        decisions += self._end(ended, still=False)
        return Step(Tracks(frame, seen, over + ended), tuple(decisions))

    def finish(self) -> list[Decision]:
        """The source is over: end every track, and say which were never decided on and why."""
        return self._end(self._tracker.finish(), still=self._after_still)

    def _embed_and_decide(self, frame: Frame, seen: tuple[TrackedFace, ...]) -> list[Decision]:
        wanted = [s for s in seen if self._shots.wants(s.track, s.quality, frame.t_ms)]
        if not frame.still and len(wanted) > self._max_faces:
            # In a crowd the nearest faces are the ones at the door.
            wanted = sorted(wanted, key=lambda s: -s.face.width)[: self._max_faces]
        if not wanted:
            return []
        probes = _embedded(self._embedder, frame, wanted)
        decisions = self._decider.observe(frame, wanted, probes)
        deciders = [self._decider]
        if self._former is not None and self._former_embedder is not None:
            others = _embedded(self._former_embedder, frame, wanted)
            decisions = both(decisions, self._former.observe(frame, wanted, others))
            deciders.append(self._former)
        self._note_shots(frame, wanted, decisions, deciders)
        if self._liveness is not None:
            # The dearest network of all is run only for who may be let through.
            maybe = [s for s in wanted if any(d.resembles_somebody(s.track) for d in deciders)]
            self._liveness.observe(frame, maybe)
        return [self._alive(frame, decision) for decision in decisions]

    def _note_shots(
        self,
        frame: Frame,
        taken: list[TrackedFace],
        decisions: list[Decision],
        deciders: list[Decider],
    ) -> None:
        """Count the views taken; where the evidence begins anew, so does the count.

        Else whoever comes into another's track is looked at only as often as one long decided on.
        """
        contradicted = {d.track for d in decisions if d.reason == CONTRADICTED}
        for item in taken:
            if any(decider.since(item.track) == frame.index for decider in deciders):
                self._shots.forget(item.track)
            self._shots.took(item.track, item.quality, frame.t_ms)
            if item.track in contradicted:
                self._shots.forget(item.track)

    def _alive(self, frame: Frame, decision: Decision) -> Decision:
        """*decision*, or its refusal when a match was not shown to be alive."""
        if self._liveness is None or decision.outcome is not Outcome.MATCH:
            return decision
        since = self._decider.since(decision.track)
        if self._former is not None:
            since = max(since, self._former.since(decision.track))
        verdict = self._liveness.verdict(decision.track, since=since, still=frame.still)
        if verdict.live:
            return decision
        return replace(decision, outcome=Outcome.REJECTED, person=None, reason=verdict.reason)

    def _end(self, tracks: tuple[int, ...], *, still: bool) -> list[Decision]:
        last_words = []
        for track in tracks:
            self._shots.forget(track)
            if self._liveness is not None:
                self._liveness.forget(track)
            decision = self._decider.end(track, still=still)
            if self._former is not None and self._former.end(track, still=still) is None:
                decision = None  # decided on by one pack is decided
            if decision is not None:
                last_words.append(decision)
        return last_words


def _embedded(embedder: FaceEmbedder, frame: Frame, wanted: list[TrackedFace]) -> Vector:
    probes = embedder.embed(frame.image, [item.face for item in wanted])
    if not np.isfinite(probes).all():
        # Dropped in silence they would look like nobody.
        raise ModelError("the embedder's output is not numbers; run: kaopass models verify")
    return probes
