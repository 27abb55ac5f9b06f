"""The recognition decision: what the frames of one track say together.

Evidence is the quality-weighted mean of the track's best embeddings. Averaging embeddings of one
person before comparing (feature-level fusion; "media pooling" in the IJB-A to IJB-C protocols)
beats voting over single frames, because noise of single views cancels and identity does not. A
match needs all of: enough good views, similarity above the calibrated threshold, a clear lead
over the next person, and most single views agreeing. It is taken back when later views contradict
it. When in doubt the answer is "unknown", never the nearest person.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from agent.values import Box, Candidate, Decision, Frame, Outcome, Quality, TrackedFace, Vector

# Two views of one person in one track are far more alike than two people: on the mean of LFW
# impostors (0.006, deviation 0.066) this is two deviations out. Below it the tracker has most
# likely jumped to another face.
SAME_FACE = 0.15

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
    """When evidence is enough. Cosines for ``threshold`` and ``min_margin``, counts otherwise."""

    threshold: float
    min_margin: float
    min_frames: int
    max_frames: int


@dataclass(slots=True, eq=False)
class _View:
    embedding: Vector
    weight: float
    person: str | None


@dataclass(slots=True, eq=False)
class _Evidence:
    views: list[_View] = field(default_factory=list)
    rejections: Counter[str] = field(default_factory=Counter)
    matched: str | None = None
    decided: bool = False
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
        decisions = []
        for item, probe, single in zip(seen, probes, self._search.search(probes), strict=True):
            evidence = self._tracks.setdefault(item.track, _Evidence())
            self._add(evidence, probe, item.quality, single)
            if len(evidence.views) >= (1 if frame.still else self._rule.min_frames):
                decisions.append(self._decide(frame, item, evidence))
        return decisions

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

    def _add(self, evidence: _Evidence, probe: Vector, quality: Quality, single: Candidate) -> None:
        if evidence.views and float(_fuse(evidence.views) @ probe) < SAME_FACE:
            # Another face under the same number: what was gathered says nothing about this one.
            evidence.views.clear()
        person = single.person if single.similarity >= self._rule.threshold else None
        evidence.views.append(_View(probe, max(quality.score, 1e-3), person))
        if len(evidence.views) > self._rule.max_frames:
            # The newest view always stays: it is what can contradict the others.
            weakest = min(range(len(evidence.views) - 1), key=lambda i: evidence.views[i].weight)
            del evidence.views[weakest]

    def _decide(self, frame: Frame, item: TrackedFace, evidence: _Evidence) -> Decision:
        candidate = self._search.search(_fuse(evidence.views)[np.newaxis])[0]
        outcome, reason = self._verdict(candidate, evidence)
        person = candidate.person if outcome is Outcome.MATCH else None
        if evidence.matched is not None and person != evidence.matched:
            # Somebody else may still be recognised here, but not on the strength of old views.
            outcome, reason, person = Outcome.UNKNOWN, CONTRADICTED, None
            evidence.views.clear()
        evidence.matched = person
        evidence.decided = True
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


def _fuse(views: list[_View]) -> Vector:
    """The quality-weighted mean of the views' embeddings, length 1, float32 (d,)."""
    total = np.sum([view.embedding * np.float32(view.weight) for view in views], axis=0)
    fused: Vector = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
    return fused
