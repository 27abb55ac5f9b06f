"""The recognition decision: what the frames of one track say together.

Evidence is the quality-weighted mean of the track's best embeddings (``agent.recognition.fusion``):
pooling before comparing beats voting over single frames and taking their best score (Best-Rowden
et al. 2014; IJB-A to IJB-C), and it is one comparison with one promise, where the best of m scores
would be m chances for a stranger. A match needs all of:

- enough good views: a single frame decides nothing, as one unlucky view is what false matches are
  made of (NIST IR 8271 finds error falling with every further image of a person);
- a score above the threshold that the promise asks for at this gallery size (open-set
  identification, ISO/IEC 19795-1): there is no nearest guess;
- a clear margin over the next person: between relatives, or two records of one person, the nearer
  of two near ones is a coin toss, and the wrong name is worse than none;
- most single views agreeing, of those that name anybody: the mean of two people's views may
  resemble a third, whom no single view names.

A match is withdrawn when later views contradict it, and evidence gathered before does not count
for the next name: a sequential test may stop early only if it can also be wrong and say so (Wald
1945). What has not been decided by the time-out is the fallback's, which the pipeline offers.
When in doubt the answer is "unknown", never the nearest person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from agent.base.values import Box, Candidate, Decision, Frame, Outcome, Quality, TrackedFace, Vector
from agent.recognition.fusion import LEAST_WEIGHT, fuse

RECOGNISED = "recognised"
BELOW_THRESHOLD = "below_threshold"
AMBIGUOUS = "too_close_to_another"
DISAGREEMENT = "views_disagree"
CONTRADICTED = "contradicted"
EMPTY_GALLERY = "gallery_is_empty"
TOO_FEW_VIEWS = "too_few_views"


class Search(Protocol):
    """The gallery's search: unit probes float32 (m, d) to m candidates."""

    def search(self, probes: Vector) -> list[Candidate]: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """When evidence is enough. Cosines for ``threshold`` and ``min_margin``, counts otherwise.

    ``same_face`` is the cosine below which two views of one track are of two people: the tracker
    has most likely jumped to another face.
    """

    threshold: float
    min_margin: float
    min_frames: int
    max_frames: int
    same_face: float = 0.15


@dataclass(slots=True, eq=False)
class _View:
    embedding: Vector
    weight: float
    person: str | None = None  # whom it names by itself


@dataclass(slots=True, eq=False)
class _Evidence:
    views: list[_View] = field(default_factory=list)
    rejections: Counter[str] = field(default_factory=Counter)
    matched: str | None = None
    decided: bool = False
    near: bool = False  # all views together reached the threshold at the last decision
    since: int = 0  # the frame of the first view after the evidence last began anew
    last_box: Box = (0.0, 0.0, 0.0, 0.0)
    last_frame: int = 0
    last_t_ms: int = 0
    last_mono_ms: int = 0


class Decider:
    """Keeps the evidence of every live track and decides on it. Not thread-safe."""

    def __init__(self, search: Search, rule: Rule) -> None:
        self._search = search
        self._rule = rule
        self._tracks: dict[int, _Evidence] = {}

    def replace(self, search: Search, rule: Rule) -> None:
        """Use another gallery from now on; tracks in progress start their evidence anew."""
        self._search, self._rule = search, rule
        self._tracks.clear()

    def saw(self, frame: Frame, seen: TrackedFace) -> None:
        """Note that a track is there, embedded or not."""
        evidence = self._tracks.setdefault(seen.track, _Evidence())
        evidence.last_box = seen.face.box
        evidence.last_frame, evidence.last_t_ms = frame.index, frame.t_ms
        evidence.last_mono_ms = frame.mono_ms
        if not seen.quality.usable:
            evidence.rejections[seen.quality.reason] += 1

    def observe(self, frame: Frame, seen: list[TrackedFace], probes: Vector) -> list[Decision]:
        """Add one embedding a track (*probes*, unit rows, in the order of *seen*) and decide.

        Returns a decision for each track that has enough views, in that order.
        """
        ready = []
        for item, probe in zip(seen, probes, strict=True):
            evidence = self._tracks.setdefault(item.track, _Evidence())
            self._add(evidence, probe, item.quality)
            if len(evidence.views) == 1:
                evidence.since = frame.index
            if len(evidence.views) >= (1 if frame.still else self._rule.min_frames):
                ready.append((item, evidence))
        if not seen:
            return []
        # New views and evidence in one product: the templates are read from memory once.
        fused = [_fused(evidence.views) for _, evidence in ready]
        found = self._search.search(np.stack([*probes, *fused]))
        for item, single in zip(seen, found[: len(seen)], strict=True):
            if single.similarity >= self._rule.threshold:
                self._tracks[item.track].views[-1].person = single.person
        return [
            self._decide(frame, item, evidence, candidate)
            for (item, evidence), candidate in zip(ready, found[len(seen) :], strict=True)
        ]

    def since(self, track: int) -> int:
        """The index of the frame from which on *track*'s evidence is of one face.

        Whatever else is judged of a track must be judged from there: before it, somebody else
        may have stood in its place.
        """
        return self._tracks[track].since

    def resembles_somebody(self, track: int) -> bool:
        """Whether a single view of *track*, or all together, reach the threshold for anybody.

        Of who does not, nothing more need be found out: they are nobody.
        """
        evidence = self._tracks[track]
        return evidence.near or any(view.person is not None for view in evidence.views)

    def end(self, track: int, *, still: bool = False) -> Decision | None:
        """Forget *track*; a REJECTED decision if nothing was ever decided on it, else None."""
        evidence = self._tracks.pop(track, None)
        if evidence is None or evidence.decided:
            return None
        reason = TOO_FEW_VIEWS
        if evidence.rejections and (not evidence.views or still):
            reason = evidence.rejections.most_common(1)[0][0]
        return Decision(
            track=track,
            frame=evidence.last_frame,
            t_ms=evidence.last_t_ms,
            mono_ms=evidence.last_mono_ms,
            box=evidence.last_box,
            outcome=Outcome.REJECTED,
            person=None,
            score=0.0,
            reason=reason,
            final=True,
        )

    def _add(self, evidence: _Evidence, probe: Vector, quality: Quality) -> None:
        if evidence.views and float(_fused(evidence.views) @ probe) < self._rule.same_face:
            # Another face under the same number: what was gathered says nothing about this one.
            evidence.views.clear()
        evidence.views.append(_View(probe, max(quality.score, LEAST_WEIGHT)))
        if len(evidence.views) > self._rule.max_frames:
            # The newest view always stays: it is what can contradict the others.
            weakest = min(range(len(evidence.views) - 1), key=lambda i: evidence.views[i].weight)
            del evidence.views[weakest]

    def _decide(
        self, frame: Frame, item: TrackedFace, evidence: _Evidence, candidate: Candidate
    ) -> Decision:
        outcome, reason = self._verdict(candidate, evidence)
        person = candidate.person if outcome is Outcome.MATCH else None
        if evidence.matched is not None and person != evidence.matched:
            # Somebody else may still be recognised here, but not on the strength of old views.
            outcome, reason, person = Outcome.UNKNOWN, CONTRADICTED, None
            evidence.views.clear()
        evidence.matched = person
        evidence.decided = True
        evidence.near = candidate.similarity >= self._rule.threshold
        return Decision(
            track=item.track,
            frame=frame.index,
            t_ms=frame.t_ms,
            mono_ms=frame.mono_ms,
            box=item.face.box,
            outcome=outcome,
            person=person,
            score=candidate.similarity,
            reason=reason,
            final=frame.still,
        )

    def _verdict(self, candidate: Candidate, evidence: _Evidence) -> tuple[Outcome, str]:
        if candidate.person is None:
            return Outcome.UNKNOWN, EMPTY_GALLERY
        if candidate.similarity < self._rule.threshold:
            return Outcome.UNKNOWN, BELOW_THRESHOLD
        if candidate.similarity - candidate.runner_up < self._rule.min_margin:
            return Outcome.UNKNOWN, AMBIGUOUS
        # A view too poor to say anything abstains; those that name somebody must mostly agree.
        named = [view.person for view in evidence.views if view.person is not None]
        if named.count(candidate.person) * 2 < len(named):
            return Outcome.UNKNOWN, DISAGREEMENT
        return Outcome.MATCH, RECOGNISED


def _fused(views: list[_View]) -> Vector:
    return fuse([view.embedding for view in views], [view.weight for view in views])
