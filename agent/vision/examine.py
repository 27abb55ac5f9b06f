"""Liveness alone: the verdict on every face of a picture or clip, without recognising anybody.

``kaopass liveness`` checks, calibrates and measures with it; the door's own path is
``agent.door.recogniser``, with the same stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.base.ports import FaceDetector, LivenessModel
from agent.base.values import Box, Face, Frame, Image, LivenessVerdict, TrackedFace
from agent.vision.bestshot import BestShots
from agent.vision.liveness import LEAST_WEIGHT, Liveness, fused, probability
from agent.vision.quality import QualityGate
from agent.vision.tracking import Tracker

MAX_VIEWS = 12  # of a clip's track, as at the door
NUMBERED = re.compile(r"^(.*?)[-_ ]?\d+$")


@dataclass(frozen=True, slots=True)
class Examined:
    """One face of a picture, or one track of a clip, where it was last seen."""

    box: Box
    views: int
    verdict: LivenessVerdict


@dataclass(frozen=True, slots=True)
class View:
    """The main face of one picture: its log-odds of being alive, and how much it weighs."""

    log_odds: float
    weight: float

    @property
    def score(self) -> float:
        """0 to 1, as one picture is judged."""
        return probability(self.log_odds)


class Examiner:
    """Detector, quality gate and liveness network; nothing is kept between files."""

    def __init__(self, detector: FaceDetector, gate: QualityGate, model: LivenessModel) -> None:
        self.detector = detector
        self._gate = gate
        self._model = model

    def check(
        self, frames: Iterable[Frame], *, threshold: float, min_frames: int, lost_ms: int
    ) -> list[Examined]:
        """The verdict on every face of a picture or clip, in the order they appeared.

        Of a picture every face is judged, however poor; of a clip the views the door would use.
        """
        stage = Liveness(self._model, threshold=threshold, min_frames=min_frames)
        tracker, shots = Tracker(lost_ms), BestShots(MAX_VIEWS)
        boxes: dict[int, Box] = {}
        views: dict[int, int] = {}
        still = False
        for frame in frames:
            still = frame.still
            faces = self.detector.detect(frame.image)
            numbers, _ = tracker.update(faces, frame.t_ms)
            wanted = []
            for number, face in zip(numbers, faces, strict=True):
                boxes[number] = face.box
                item = TrackedFace(number, face, self._gate.judge(frame.image, face))
                if still or shots.wants(number, item.quality, frame.t_ms):
                    wanted.append(item)
                    shots.took(number, item.quality, frame.t_ms)
                    views[number] = views.get(number, 0) + 1
            stage.observe(frame, wanted)
        return [
            Examined(box, views.get(number, 0), stage.verdict(number, still=still))
            for number, box in boxes.items()
        ]

    def views(self, frames: Iterable[Frame]) -> list[View]:
        """The main face of every frame; frames without a face have none."""
        found = []
        for frame in frames:
            faces = self.detector.detect(frame.image)
            if faces:
                found.append(self.view(frame.image, max(faces, key=_size)))
        return found

    def view(self, image: Image, face: Face) -> View:
        """One face of one picture."""
        weight = max(self._gate.judge(image, face).score, LEAST_WEIGHT)
        return View(float(self._model.log_odds(image, [face])[0]), weight)


def sequence_score(views: Sequence[View]) -> float:
    """0 to 1: *views* of one presentation together. Raises ZeroDivisionError without views."""
    return probability(fused([v.log_odds for v in views], [v.weight for v in views]))


def sequence_name(path: Path) -> str:
    """What pictures of one presentation share: their folder, and the name before its last number.

    ``live/0001/0001_00_00_01_17.jpg`` belongs to ``live/0001/0001_00_00_01``.
    """
    found = NUMBERED.match(path.stem)
    return str(path.parent / (found.group(1) if found and found.group(1) else path.stem))


def _size(face: Face) -> float:
    return face.width * face.height
