"""Which face of this frame continues which face of the last: tracks over time.

Boxes are predicted with constant velocity and paired by the assignment of least total cost, so
that two people who pass each other keep their tracks. A track unseen for ``lost_ms`` has ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.base.values import Box, Face, Vector
from agent.vision.assignment import least_cost_pairs

# What leaving a track and a face apart costs: hardly more than the dearest pair (1.45). Much more,
# and whoever stands still would be given a neighbour's track, only to find each track some face.
NO_MATCH = 1.5
MIN_OVERLAP = 0.05
# Without overlap a face may still be the same one if its centre moved less than this many widths
# and its size changed by less than this factor: at 5 to 15 frames a second people move that far.
MAX_STEP_WIDTHS = 0.9
MAX_GROWTH = 1.6
VELOCITY_SMOOTHING = 0.5


@dataclass(slots=True)
class _Track:
    number: int
    box: Vector  # float32 (4,)
    velocity: Vector  # float32 (4,), pixels a millisecond
    seen_ms: int

    def at(self, t_ms: int) -> Vector:
        moved: Vector = self.box + self.velocity * np.float32(t_ms - self.seen_ms)
        return moved

    def update(self, box: Box, t_ms: int) -> None:
        new = np.asarray(box, dtype=np.float32)
        elapsed = max(t_ms - self.seen_ms, 1)
        measured = (new - self.box) / np.float32(elapsed)
        self.velocity += np.float32(VELOCITY_SMOOTHING) * (measured - self.velocity)
        self.box, self.seen_ms = new, t_ms


class Tracker:
    """Numbers faces so that one person in front of the camera keeps one number."""

    def __init__(self, lost_ms: int) -> None:
        self._lost_ms = lost_ms
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, faces: list[Face], t_ms: int) -> tuple[list[int], tuple[int, ...]]:
        """Track numbers for *faces*, in their order, and the tracks that ended before *t_ms*.

        *t_ms* is the source's clock and must not run backwards.
        """
        ended = tuple(t.number for t in self._tracks if t_ms - t.seen_ms > self._lost_ms)
        self._tracks = [t for t in self._tracks if t.number not in ended]
        numbers = [0] * len(faces)
        if faces and self._tracks:
            costs = self._costs(faces, t_ms)
            for row, column in least_cost_pairs(costs):
                if costs[row, column] < NO_MATCH:
                    track = self._tracks[row]
                    track.update(faces[column].box, t_ms)
                    numbers[column] = track.number
        for index, face in enumerate(faces):
            if numbers[index] == 0:
                numbers[index] = self._start(face, t_ms)
        return numbers, ended

    def finish(self) -> tuple[int, ...]:
        """End every track: the source is over."""
        ended = tuple(t.number for t in self._tracks)
        self._tracks = []
        return ended

    def _start(self, face: Face, t_ms: int) -> int:
        number = self._next
        self._next += 1
        box = np.asarray(face.box, dtype=np.float32)
        self._tracks.append(_Track(number, box, np.zeros(4, dtype=np.float32), t_ms))
        return number

    def _costs(self, faces: list[Face], t_ms: int) -> Vector:
        """float32 (tracks, faces): 0 to 1.45 where a face may continue a track, else NO_MATCH."""
        costs = np.full((len(self._tracks), len(faces)), NO_MATCH, dtype=np.float32)
        for row, track in enumerate(self._tracks):
            predicted = track.at(t_ms)
            for column, face in enumerate(faces):
                box = np.asarray(face.box, dtype=np.float32)
                overlap = iou(predicted, box)
                step, growth = _step(predicted, box)
                if overlap >= MIN_OVERLAP or (step < MAX_STEP_WIDTHS and growth < MAX_GROWTH):
                    # Boxes that overlap may be farther apart than that only where they are tall.
                    costs[row, column] = (1.0 - overlap) + 0.5 * min(step, MAX_STEP_WIDTHS)
        return costs


def iou(a: Vector, b: Vector) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[2], b[2]), min(a[3], b[3])
    shared = max(0.0, float(right - left)) * max(0.0, float(bottom - top))
    total = float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])) - shared
    return shared / total if total > 0 else 0.0


def _step(a: Vector, b: Vector) -> tuple[float, float]:
    """Distance of the centres in mean widths, and the larger width over the smaller one."""
    width_a, width_b = max(float(a[2] - a[0]), 1.0), max(float(b[2] - b[0]), 1.0)
    distance = float(np.hypot(a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3])) / 2
    return distance / ((width_a + width_b) / 2), max(width_a, width_b) / min(width_a, width_b)
