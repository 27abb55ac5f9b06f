"""What flows along the line: one frozen value from each stage to the next.

Events, the last of them, are in ``agent.base.events``.
Times are integers in milliseconds. ``mono_ms`` is CLOCK_MONOTONIC of this boot, ``t_ms`` the
position on the source's own clock (0 at its first frame), ``wall_ms`` Unix time.
Images are BGR ``uint8`` arrays of shape (height, width, 3); embeddings are ``float32`` rows of
length 1. Boxes are ``(x1, y1, x2, y2)`` in pixels of the frame they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Vector = NDArray[np.float32]
Box = tuple[float, float, float, float]

PURPOSES = ("bus", "hall")  # what a resident may be recognised for; a place is of one kind

# No device of this version ran before it was written: an earlier time means the clock was never
# set (a Pi without a battery starts in 1970 or at its last shutdown). 2026-11-01T00:00:00Z.
BUILT_MS = 1_793_491_200_000


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a camera.

    ``still`` marks a photograph: it is decided on alone, not as part of a sequence.
    """

    image: Image
    index: int
    t_ms: int
    mono_ms: int
    still: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A detected face: its box, the detector's score (0 to 1) and five landmarks.

    ``landmarks`` is float32 (5, 2): left eye, right eye, nose, left and right corner of the mouth,
    left and right as seen in the picture.
    """

    box: Box
    score: float
    landmarks: Vector

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]


@dataclass(frozen=True, slots=True)
class Quality:
    """How usable one view of a face is. ``reason`` is empty when it may be embedded.

    ``score`` is 0 to 1 and only orders views of one track among each other.
    """

    score: float
    reason: str = ""

    @property
    def usable(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """A face in the current frame and the track it continues."""

    track: int
    face: Face
    quality: Quality


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The tracks seen in *frame*, and those that ended with it."""

    frame: Frame
    seen: tuple[TrackedFace, ...]
    ended: tuple[int, ...]


class Outcome(str, Enum):
    """What is said of a track."""

    MATCH = "match"
    UNKNOWN = "unknown"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The gallery's answer to one probe: the best person, and how far the next one is behind.

    Similarities are cosines, -1 to 1; ``person`` is None in an empty gallery.
    """

    person: str | None
    similarity: float
    runner_up: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on a track, on which frame, and why.

    ``person`` is set only for a match. ``score`` is the cosine of the evidence with the nearest
    person, 0 where nothing was compared. ``final`` is False while the track may still say more.
    """

    track: int
    frame: int
    t_ms: int
    mono_ms: int
    box: Box
    outcome: Outcome
    person: str | None
    score: float
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class LivenessVerdict:
    """Whether a face was shown to be alive. ``score`` is 0 to 1; 0.5 is the pack's own threshold.

    ``score`` is 0 and ``live`` False where there was too little to judge by.
    """

    live: bool
    score: float
    reason: str  # "live", "not_live", "liveness_unsure"


@dataclass(frozen=True, slots=True)
class Nack:
    """The city could not take event ``seq``; ``code`` says why."""

    seq: int
    code: str


@dataclass(frozen=True, slots=True)
class Ack:
    """What the city has committed of ``epoch``: all up to ``upto``, and the ranges ``have``.

    Ranges are inclusive. Events in ``nack`` were refused, each on its own.
    """

    epoch: str
    upto: int
    have: tuple[tuple[int, int], ...]
    nack: tuple[Nack, ...]
    server_time_ms: int


@dataclass(frozen=True, slots=True)
class DoorSignal:
    """What a person at the door is told. ``nickname`` is what they chose, never their name."""

    name: str  # "welcome", "again", "goodbye", "fallback", "out_of_service", "ready"
    nickname: str = ""


@dataclass(frozen=True, slots=True)
class DoorEdge:
    """A door of the vehicle or the hall began to stand open, or closed."""

    door: str
    is_open: bool
    mono_ms: int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The broker accepted the connection."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The connection ended or was refused, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message from the broker, or for it.

    ``retain`` asks the broker to keep the last one of a topic; one that comes with it was kept
    there, nobody has sent it just now.
    """

    topic: str
    payload: bytes
    retain: bool = False


LinkEvent = LinkUp | LinkDown | Message


@dataclass(frozen=True, slots=True)
class Standing:
    """What a device has in force, for its birth; 0 and "" before it was given anything."""

    gallery_version: int = 0
    gallery_root: str = ""
    settings_version: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """A snapshot of a running agent for ``kaopass status``."""

    state: str
    alarms: tuple[str, ...]
    counters: dict[str, int]
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pending:
    """A certificate request waits for somebody's approval; ask again after ``retry_seconds``."""

    retry_seconds: float
