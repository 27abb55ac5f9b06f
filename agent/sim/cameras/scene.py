"""The fake camera: a bus door to which people cut out of photographs walk up.

It behaves like a camera (own clock, noise, blur, backlight, an end or none) and knows the truth:
who is in which frame, and where. Frames are repeatable for a seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.base.drivers import CameraDriver, CameraRequest
from agent.base.errors import CameraError, UsageError
from agent.base.values import Box, Frame, Image
from agent.sim.photographs import passengers
from agent.sim.scenery import (
    FACE_PIXELS,
    Cutout,
    Floats,
    Passenger,
    cut_out,
    draw_door,
    draw_outside,
)
from agent.sim.walks import Pose, ScenePlan, Walk, box_of, overlap, plan, pose

_DOOR_STEPS = 6  # drawings of the door between shut and open
_INSIDE = 0.085  # a face wider than this share of the picture is before the door's frame
_SAME_FACE = 0.3  # least overlap of a detected box with the true one


class SceneCamera:
    """A ``ports.Camera`` showing *passengers*, a list or something that makes it at ``open()``.

    *rounds* is how often the scene is shown, 0 for ever. At *pace* "clock" a frame comes when its
    time has come, at "fast" at once. Those named in *returning* come twice, at two stops.
    """

    def __init__(
        self,
        passengers: Sequence[Passenger] | Callable[[], Sequence[Passenger]],
        *,
        width_pixels: int = 640,
        height_pixels: int = 480,
        frames_per_second: float = 15.0,
        pace: Literal["clock", "fast"] = "clock",
        seed: int = 0,
        rounds: int = 1,
        returning: Collection[str] = (),
    ) -> None:
        self._given = passengers
        self._size = (width_pixels, height_pixels)
        self._fps = frames_per_second
        self._pace = pace
        self._seed = seed
        self._rounds = rounds
        self._returning = tuple(returning)
        self._people: dict[str, Passenger] = {}
        self._plan: ScenePlan | None = None
        self._cutouts: dict[str, tuple[Cutout, ...]] = {}
        self._outside: list[Image] = []
        self._door: list[tuple[Floats, Floats]] = []
        self._noise: NDArray[np.int8] = np.zeros((0, 0, 3), np.int8)
        self._index = 0
        self._start = 0.0

    def open(self) -> None:
        """Plan the walks and draw the door. Raises CameraError when there is nobody to show."""
        people = self._given() if callable(self._given) else self._given
        if not people:
            raise CameraError(
                "the scene has no passengers: no face was found in its photographs; "
                "check the model pack with `kaopass models verify`"
            )
        self._people = {person.key: person for person in people}
        rng = np.random.default_rng(self._seed)
        self._plan = plan(list(self._people), self._fps, rng, returning=self._returning)
        width, height = self._size
        self._outside = [draw_outside(width, height, rng) for _ in range(self._plan.stops)]
        self._door = [draw_door(width, height, n / _DOOR_STEPS) for n in range(_DOOR_STEPS + 1)]
        # One large patch of sensor noise, read at a random place for each frame.
        noise = rng.normal(0.0, 3.2, (height + 64, width + 64, 3)).round()
        self._noise = np.clip(noise, -127, 127).astype(np.int8)
        self._index = 0
        self._start = time.monotonic()

    def read(self) -> Frame | None:
        """The next frame, None after the last round. Raises CameraError before ``open()``."""
        length = self._opened().frames
        if self._rounds and self._index >= self._rounds * length:
            return None
        index = self._index
        t_ms = round(index * 1000 / self._fps)
        if self._pace == "clock":
            self._wait_until(t_ms / 1000)
        image = self._draw(index % length, index)
        self._index += 1
        return Frame(image, index, t_ms, round(time.monotonic() * 1000))

    def close(self) -> None:
        self._plan = None
        self._cutouts.clear()

    @property
    def plan(self) -> ScenePlan:
        """Who comes when, in frames of one round. Raises CameraError before ``open()``."""
        return self._opened()

    def stop_at(self, frame: int) -> int:
        """Number of the stop, from 0, at which the bus stands in *frame* or which it left last."""
        return self._opened().stop_at(frame)

    def faces(self, frame: int) -> list[tuple[str, Box]]:
        """The truth on *frame*: key and face box of everybody on stage; boxes may reach outside."""
        return [
            (walk.key, box_of(place, self._aspect(walk.key)))
            for walk, place in self._on_stage(frame % self._opened().frames)
        ]

    def who(self, frame: int, box: Box) -> str | None:
        """Key of the passenger whose face in *frame* is the one in *box*, None if nobody's is."""
        near = [(overlap(true, box), key) for key, true in self.faces(frame)]
        best = max(near, default=(0.0, ""))
        return best[1] if best[0] >= _SAME_FACE else None

    def _opened(self) -> ScenePlan:
        if self._plan is None:
            raise CameraError("the scene camera is not open; call open() first")
        return self._plan

    def _wait_until(self, seconds: float) -> None:
        ahead = self._start + seconds - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        elif ahead < -1.0:
            self._start -= ahead  # after a standstill go on from here, not in a rush

    def _on_stage(self, frame: int) -> list[tuple[Walk, Pose]]:
        """Walks in *frame* of a round, farthest first."""
        found = []
        for walk in self._opened().walks:
            place = pose(walk, frame, self._fps, *self._size)
            if place is not None:
                found.append((walk, place))
        return sorted(found, key=lambda item: item[1].width)

    def _aspect(self, key: str) -> float:
        x1, y1, x2, y2 = self._people[key].face
        return (y2 - y1) / (x2 - x1)

    def _draw(self, frame: int, index: int) -> Image:
        stage = self._on_stage(frame)
        canvas = self._street(frame, stage)
        threshold = _INSIDE * self._size[0]
        for walk, place in stage:
            if place.width < threshold:
                self._paste(canvas, walk, place, indoors=False)
        door, behind = self._door[self._door_step(frame)]
        canvas = _floats(cv2.add(cv2.multiply(canvas, behind), door))
        for walk, place in stage:
            if place.width >= threshold:
                self._paste(canvas, walk, place, indoors=True)
        rng = np.random.default_rng((self._seed, index))
        top, left = rng.integers(0, 64, 2)
        width, height = self._size
        grain = self._noise[top : top + height, left : left + width]
        return np.asarray(cv2.add(canvas, grain, dtype=cv2.CV_8U), np.uint8)

    def _street(self, frame: int, stage: list[tuple[Walk, Pose]]) -> Floats:
        """What is seen outside, as bright as the passengers' light from behind asks for."""
        glare = 1.0
        for walk, _ in stage:
            through = (frame - walk.first) / max(1, walk.last - walk.first)
            glare += 0.30 * walk.backlight * np.sin(np.pi * through)
        outside = self._outside[self.stop_at(frame)]
        return _floats(outside.astype(np.float32) * np.float32(glare))

    def _door_step(self, frame: int) -> int:
        """How far open the door is: it opens on arrival and shuts on departure."""
        scene = self._opened()
        stop = self.stop_at(frame)
        since = frame - scene.arrivals[stop]
        after = frame - scene.departures[stop]
        if after >= 0:
            return max(0, _DOOR_STEPS - after)
        return min(_DOOR_STEPS, since)

    def _layers(self, key: str) -> tuple[Cutout, ...]:
        """The passenger in three sizes, cut out when first seen so that opening stays quick."""
        if key not in self._cutouts:
            full = cut_out(self._people[key])
            half = full.halved()
            self._cutouts[key] = (full, half, half.halved())
        return self._cutouts[key]

    def _paste(self, canvas: Floats, walk: Walk, place: Pose, indoors: bool) -> None:
        layers = self._layers(walk.key)
        figure = next(
            (layer for layer in reversed(layers) if layer.face[0] >= place.width), layers[0]
        )
        scale = place.width / figure.face[0]
        rows, columns = figure.picture.shape[:2]
        width, height = self._size
        reach = columns * scale / 2 + 8
        left, right = max(0, int(place.x - reach)), min(width, int(place.x + reach) + 1)
        top = max(0, int(place.y - figure.centre[1] * scale) - 8)
        bottom = min(height, int(place.y + (rows - figure.centre[1]) * scale) + 8)
        if left >= right or top >= bottom:
            return
        turn = cv2.getRotationMatrix2D(figure.centre, place.tilt, scale)
        turn[0, 2] += place.x - figure.centre[0] - left
        turn[1, 2] += place.y - figure.centre[1] - top
        person = cv2.warpAffine(figure.picture, turn, (right - left, bottom - top))
        sigma = walk.defocus * place.width / FACE_PIXELS
        person = _blurred(_floats(person), sigma, place.speed)
        light = walk.light * (1.0 if indoors else 0.94)
        veil = 16.0 * walk.backlight  # stray light lifts the blacks of a backlit face
        lit = np.hstack([np.eye(3) * light, np.full((3, 1), veil)])
        behind = np.array([[0, 0, 0, -1, 1]] * 3)
        part = canvas[top:bottom, left:right]
        seen = cv2.multiply(part, cv2.transform(person, behind))
        canvas[top:bottom, left:right] = cv2.add(seen, cv2.transform(person, lit))


def _blurred(picture: Floats, sigma: float, speed: tuple[float, float]) -> Floats:
    """Out of focus by *sigma* pixels, and smeared along *speed* for a third of the frame."""
    if sigma > 0.25:
        picture = _floats(cv2.GaussianBlur(picture, (0, 0), sigma))
    across = round(abs(speed[0]) / 3)
    down = round(abs(speed[1]) / 3)
    if across > 1 or down > 1:
        picture = _floats(cv2.blur(picture, (max(1, across), max(1, down))))
    return picture


def _floats(values: object) -> Floats:
    return np.asarray(values, dtype=np.float32)


def _make(asked: CameraRequest) -> SceneCamera:
    detector = asked.detector
    if detector is None:
        raise UsageError('camera.kind = "scene" is for `kaopass run` and `kaopass demo` only')
    return SceneCamera(
        lambda: passengers(detector),
        width_pixels=asked.width_pixels,
        height_pixels=asked.height_pixels,
        frames_per_second=asked.frames_per_second,
        pace=asked.pace,
        rounds=0 if asked.loop else 1,
    )


DRIVER = CameraDriver(_make, live=False)
