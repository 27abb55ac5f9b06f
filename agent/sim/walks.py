"""Who walks up to the fake camera, when, and where their face is: the scene's ground truth.

Everything follows from a seed and the frame number, so that a run can be repeated exactly.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from agent.base.values import Box

APPROACH_SECONDS = 1.1
PAUSE_SECONDS = 0.8
LEAVE_SECONDS = 0.65
# The next in the queue sets out before the one at the door has left: two are in the picture.
FOLLOW_SECONDS = 1.35
# Before and after who returns a little more room: their lamp should be seen, not overtaken.
ROOM_SECONDS = 0.6
BETWEEN_STOPS_SECONDS = 1.2
WALK_SECONDS = APPROACH_SECONDS + PAUSE_SECONDS + LEAVE_SECONDS
_FAR, _NEAR = 30 / 640, 110 / 640  # width of a face, in widths of the picture


@dataclass(frozen=True, slots=True)
class Pose:
    """A face in one frame: its middle and width in pixels, its tilt in degrees.

    ``speed`` is how far it moves until the next frame, in pixels (right, down).
    """

    x: float
    y: float
    width: float
    tilt: float
    speed: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk-up of passenger ``key`` at ``stop``, in frames ``first`` to ``last`` inclusive.

    ``side`` is -1 (left) or 1 (right), where they stand and leave. ``light`` multiplies their
    brightness, ``backlight`` (0 to 1) says how bright it is behind them, ``defocus`` is a
    Gaussian's sigma in pixels.
    """

    key: str
    stop: int
    first: int
    last: int
    side: int
    near: float
    far_offset: float
    eye_line: float
    rhythm: float
    light: float
    backlight: float
    defocus: float


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """All walks of one round, in order of their first frame, and how long it is in frames."""

    walks: tuple[Walk, ...]
    frames: int
    stops: int
    # First frame of each stop; the doors are shut between stops.
    arrivals: tuple[int, ...]
    departures: tuple[int, ...]

    def stop_at(self, frame: int) -> int:
        """Number of the stop, from 0, at which the bus stands in *frame* or which it left last."""
        within = frame % self.frames
        return max(0, sum(within >= arrival for arrival in self.arrivals) - 1)


def plan(
    keys: Sequence[str],
    frames_per_second: float,
    rng: np.random.Generator,
    *,
    returning: Collection[str] = (),
    stops: int = 3,
) -> ScenePlan:
    """Send everybody of *keys* once, in a random order over *stops*, one after another.

    Those in *returning* board at the first stop and come again at the last.
    """
    again = [key for key in keys if key in returning]
    others = [keys[place] for place in rng.permutation(len(keys)) if keys[place] not in returning]
    stops = max(1, min(stops, len(others) or 1))
    queues = [list(part) for part in np.array_split(np.array(others, dtype=object), stops)]
    for number, key in enumerate(again):
        queues[0].insert(min(1 + 2 * number, len(queues[0])), key)
        if stops > 1:
            queues[-1].insert(max(0, len(queues[-1]) - 1 - number), key)
    length = math.ceil(WALK_SECONDS * frames_per_second)
    follow = max(1, round(FOLLOW_SECONDS * frames_per_second))
    pause = max(1, round(BETWEEN_STOPS_SECONDS * frames_per_second))
    room = round(ROOM_SECONDS * frames_per_second)
    walks: list[Walk] = []
    arrivals, departures = [], []
    start = pause // 2
    for stop, queue in enumerate(queues):
        arrivals.append(max(0, start - pause // 2))
        for key in queue:
            start += room if key in again else 0
            walks.append(_walk(key, stop, start, length, len(walks), rng))
            start += follow + (room if key in again else 0)
        start += max(0, length - follow)
        departures.append(start)
        start += pause
    return ScenePlan(tuple(walks), start, stops, tuple(arrivals), tuple(departures))


def _walk(
    key: str, stop: int, start: int, length: int, number: int, rng: np.random.Generator
) -> Walk:
    backlight = float(rng.random() ** 2)
    return Walk(
        key=key,
        stop=stop,
        first=start,
        last=start + length - 1,
        # Sides alternate, so nobody walks through the one who stands at the door.
        side=-1 if number % 2 else 1,
        near=float(rng.uniform(0.86, 1.06)),
        far_offset=float(rng.uniform(0.085, 0.14)),
        eye_line=float(rng.uniform(-0.25, 0.30)),
        rhythm=float(rng.uniform(0, 2 * math.pi)),
        light=float(rng.uniform(0.80, 1.10) * (1 - 0.30 * backlight)),
        backlight=backlight,
        defocus=float(rng.uniform(0.2, 0.7)),
    )


def pose(walk: Walk, frame: int, frames_per_second: float, width: int, height: int) -> Pose | None:
    """Where *walk*'s face is in *frame* of a picture of that size; None when not on stage."""
    if not walk.first <= frame <= walk.last:
        return None
    seconds = (frame - walk.first) / frames_per_second
    here = _place(walk, seconds, width, height)
    there = _place(walk, seconds + 1 / frames_per_second, width, height)
    return Pose(*here, (there[0] - here[0], there[1] - here[1]))


def _place(
    walk: Walk, seconds: float, width: int, height: int
) -> tuple[float, float, float, float]:
    approach = min(1.0, seconds / APPROACH_SECONDS)
    approach = 1 - (1 - approach) ** 1.6  # slows down before the door
    leaving = max(0.0, seconds - APPROACH_SECONDS - PAUSE_SECONDS) / LEAVE_SECONDS
    near = _NEAR * walk.near
    # At an even walk the distance shrinks evenly, and a face is as wide as 1 / distance.
    face = width / ((1 - approach) / _FAR + approach / near) * (1 + 0.10 * leaving)
    walking = 1.0 if approach < 1 or leaving > 0 else 0.15
    step = 2 * math.pi * 1.7 * seconds + walk.rhythm
    offset = walk.far_offset + (0.155 - walk.far_offset) * approach + 0.50 * leaving**1.5
    x = width * (0.5 + walk.side * offset) + 0.05 * walking * face * math.sin(step / 2)
    bob = 0.03 * walking * face * abs(math.sin(step))
    y = height * 0.40 + face * walk.eye_line - bob
    return x, y, face, 2.5 * walking * math.sin(step / 2 + 1)


def box_of(pose_: Pose, aspect: float) -> Box:
    """The face's box, for a face *aspect* times as high as wide."""
    half_width, half_height = pose_.width / 2, pose_.width * aspect / 2
    return (
        pose_.x - half_width,
        pose_.y - half_height,
        pose_.x + half_width,
        pose_.y + half_height,
    )


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return wide * high / (sum(areas) - wide * high)
