"""Is this a face or a picture of one: what the views of one track say together.

The log-odds of single views are averaged, weighted by the views' quality: errors of single views
are large and partly independent. A person must show the same number of views as for a match, and
only views of the face that is being recognised count. Without a verdict nobody is live.

Cues that cost nothing were tried and left out, because they did not tell live from flat:
- parallax: the rigidity of the five landmarks over a track (the smallest singular value of their
  affine factorisation, Tomasi and Kanade 1992) is 0.008 to 0.018 for people who turn and walk and
  0.006 to 0.034 for drawn flat sheets; the detector's jitter is larger than the relief;
- a sheet that moves with its face (after Anjos and Marcel 2011: optical flow beside the face like
  the face's, unlike the background's): 23 to 59% of the points beside people who walk up, whose
  hair, shoulders and neighbours move too, 33 to 75% of those beside drawn sheets;
- saturation, spectrum and over-exposure follow the lamp more than the skin.
A sheet's edge, a bezel and moire are the network's own cues, in its widest and its closest crop.
Views mirrored and judged once more bring 10.6% to 9.9% errors an image and none fewer a sequence,
for twice the time; the median of the views instead of their mean makes no difference.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.base.errors import ModelError
from agent.base.ports import LivenessModel, LivenessSensor
from agent.base.values import Frame, LivenessVerdict, TrackedFace

LIVE = "live"
NOT_LIVE = "not_live"
UNSURE = "liveness_unsure"
DEFAULT_THRESHOLD = 0.5
MAX_VIEWS = 24  # of a track; at the door, views come more slowly once it is settled
LEAST_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class _View:
    frame: int
    log_odds: float
    weight: float
    sensed: bool | None


class Liveness:
    """Keeps what was seen of every live track and judges it. Not thread-safe."""

    def __init__(
        self,
        model: LivenessModel,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        min_frames: int = 1,
        sensor: LivenessSensor | None = None,
    ) -> None:
        """*threshold* is 0 to 1; *min_frames* views are needed, of a photograph one. With a
        *sensor* both it and the model must agree that the face is alive."""
        self._model = model
        self._threshold = threshold
        self._min_frames = min_frames
        self._sensor = sensor
        self._tracks: dict[int, deque[_View]] = {}

    def observe(self, frame: Frame, seen: Sequence[TrackedFace]) -> None:
        """Look at *seen* in *frame*: one run of the model for each.

        Raises ModelError when the model stops giving answers.
        """
        if not seen:
            return
        faces = [item.face for item in seen]
        sensed: Sequence[bool | None] = [None] * len(faces)
        if self._sensor is not None:
            sensed = self._sensor.look(frame, faces)
        found = self._model.log_odds(frame.image, faces)
        if not np.isfinite(found).all():
            # Dropped in silence nobody would be alive any more.
            raise ModelError(
                "the liveness network's output is not numbers; run: kaopass models verify"
            )
        for item, value, felt in zip(seen, found, sensed, strict=True):
            weight = max(item.quality.score, LEAST_WEIGHT)
            views = self._tracks.setdefault(item.track, deque(maxlen=MAX_VIEWS))
            views.append(_View(frame.index, float(value), weight, felt))

    def verdict(self, track: int, *, since: int = 0, still: bool = False) -> LivenessVerdict:
        """Judge *track* by its views from frame *since* on; one is enough when *still*."""
        views = [view for view in self._tracks.get(track, ()) if view.frame >= since]
        if len(views) < (1 if still else self._min_frames):
            return LivenessVerdict(False, 0.0, UNSURE)
        score = probability(fused([v.log_odds for v in views], [v.weight for v in views]))
        if score < self._threshold:
            return LivenessVerdict(False, score, NOT_LIVE)
        if self._sensor is not None:
            yes, no = (sum(v.sensed is answer for v in views) for answer in (True, False))
            if yes <= no:
                return LivenessVerdict(False, score, NOT_LIVE if no else UNSURE)
        return LivenessVerdict(True, score, LIVE)

    def forget(self, track: int) -> None:
        """The track has ended."""
        self._tracks.pop(track, None)


def fused(log_odds: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted mean of single views' log-odds."""
    return float(np.average(log_odds, weights=weights))


def probability(log_odds: float) -> float:
    """Log-odds to a score of 0 to 1."""
    return 1.0 / (1.0 + math.exp(-log_odds))
