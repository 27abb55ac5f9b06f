"""Which views of a track are worth an embedding: the first good ones, better ones, then a few.

Embedding is the dearest step on a small board. Three good views decide; more are embedded only
if they are better than what is there, or now and then, to notice that the track became somebody
else.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.base.values import Quality

BETTER = 1.10  # a view this much better than the best so far is always worth it
CHECK_MS = 700  # a settled track is looked at again after this long


@dataclass(slots=True)
class _Taken:
    count: int = 0
    best: float = 0.0
    last_ms: int = 0


class BestShots:
    """Remembers per track what has been embedded, and says what to embed next."""

    def __init__(self, max_frames: int) -> None:
        """*max_frames*: views a track's evidence holds before only checks are made."""
        self._max_frames = max_frames
        self._taken: dict[int, _Taken] = {}

    def wants(self, track: int, quality: Quality, t_ms: int) -> bool:
        """Whether this view should be embedded now; call ``took`` when it was."""
        if not quality.usable:
            return False
        taken = self._taken.get(track)
        if taken is None or taken.count < self._max_frames:
            return True
        return quality.score > taken.best * BETTER or t_ms - taken.last_ms >= CHECK_MS

    def took(self, track: int, quality: Quality, t_ms: int) -> None:
        """Record that this view was embedded."""
        taken = self._taken.setdefault(track, _Taken())
        taken.count += 1
        taken.best = max(taken.best, quality.score)
        taken.last_ms = t_ms

    def forget(self, track: int) -> None:
        """The track has ended, or its evidence begins anew: its next views are the first."""
        self._taken.pop(track, None)

    def forget_all(self) -> None:
        """The evidence of every track begins anew."""
        self._taken.clear()
