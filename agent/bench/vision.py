"""``kaopass bench vision``: what a frame costs, beside the bare model calls for the same work.

Every ``session.run`` that ``Recogniser.process`` makes on a frame is noted with its inputs. The
same calls, in the same number, sizes and order, are then made alone: they are the bare model calls
of that frame. Both are timed frame by frame in turn, so that other load meets both alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.base.values import Frame, Vector
from agent.bench.board import (
    PEOPLE,
    SCENE_SECONDS,
    Machine,
    gallery_room,
    percentile,
    scene_frames,
    this_board,
)
from agent.hw.models.networks.onnx import open_session
from agent.recognition.matcher import Matcher
from agent.recognition.templates import TemplateSet
from agent.settings.model import Settings
from agent.wiring.parts import open_networks, recogniser

WARM_UP_FRAMES = 15


@dataclass(frozen=True, slots=True)
class VisionFigures:
    """Milliseconds a frame. ``ratio`` is the median over frames of ours over bare.

    ``ratio_with_faces`` is the same over the frames on which something was embedded.
    ``decision_seconds`` is what the good views of one face take that a decision needs, at the
    camera's rate or this board's, whichever is slower; ``gallery_up_to`` is in people.
    """

    board: Machine
    frames: int
    embeddings: int
    ms_per_frame: float
    ms_per_frame_p95: float
    ms_bare: float
    ratio: float
    ratio_of_sums: float
    ratio_with_faces: float
    frames_per_second: float
    decision_seconds: float
    gallery_up_to: int


class Tapped:
    """A session that notes what it is asked to run. Stands in for an ONNX Runtime session."""

    def __init__(self, session: Any, calls: list[tuple[Any, list[str], dict[str, Vector]]]) -> None:
        self._session = session
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, names: list[str], feed: dict[str, Vector]) -> list[Vector]:
        self._calls.append((self._session, names, feed))
        outputs: list[Vector] = self._session.run(names, feed)
        return outputs


def measure(settings: Settings, seconds: float = SCENE_SECONDS) -> VisionFigures:
    """Run the scene's frames through the line of *settings*, against a gallery of 25,324."""
    board = this_board()
    calls: list[tuple[Any, list[str], dict[str, Vector]]] = []
    networks = open_networks(settings, lambda *given: Tapped(open_session(*given), calls))
    frames = scene_frames(settings, networks.detector, seconds)
    town = strangers(PEOPLE)
    line = recogniser(settings, networks, town)
    ours, bare, embeddings = [], [], []
    for number, frame in enumerate(frames[:WARM_UP_FRAMES] + frames):
        if number == WARM_UP_FRAMES:
            line.finish()
        again = Frame(frame.image, number, round(number * 1000 / 15), frame.mono_ms)
        calls.clear()
        begun = time.perf_counter()
        line.process(again)
        between = time.perf_counter()
        noted = list(calls)
        begun_bare = time.perf_counter()
        for session, names, feed in noted:
            session.run(names, feed)
        over = time.perf_counter()
        if number >= WARM_UP_FRAMES:
            ours.append((between - begun) * 1000)
            bare.append((over - begun_bare) * 1000)
            # The detector looks once or twice; what is more are faces.
            embeddings.append(sum(_is_crop(feed) for _, _, feed in noted))
    ratios = np.array(ours) / np.array(bare)
    faces = np.array(embeddings) > 0
    with_faces = ratios[faces]
    frame_ms = max(
        percentile(np.array(ours)[faces].tolist(), 50), 1000 / settings.camera.frames_per_second
    )
    return VisionFigures(
        board=board,
        frames=len(ours),
        embeddings=sum(embeddings),
        ms_per_frame=round(percentile(ours, 50), 2),
        ms_per_frame_p95=round(percentile(ours, 95), 2),
        ms_bare=round(percentile(bare, 50), 2),
        ratio=round(float(np.median(ratios)), 3),
        ratio_of_sums=round(sum(ours) / sum(bare), 3),
        ratio_with_faces=round(percentile(with_faces.tolist(), 50), 3),
        frames_per_second=round(1000 / (sum(ours) / len(ours)), 1),
        decision_seconds=round(settings.decision.min_frames * frame_ms / 1000, 2),
        gallery_up_to=gallery_room(board, _search_ms(town)),
    )


def _search_ms(town: TemplateSet) -> float:
    """The median time of a search for one face."""
    matcher, taken = Matcher(town), []
    for row in range(9):
        begun = time.perf_counter()
        matcher.search(town.matrix[row : row + 1])
        taken.append((time.perf_counter() - begun) * 1000)
    return percentile(taken, 50)


def strangers(people: int, templates: int = 1) -> TemplateSet:
    """A gallery of *people* made of random directions: nobody is alike, the search costs the same.

    Drawn in place, because the matrix of a million people is 2 GB.
    """
    rng = np.random.default_rng(25_324)
    matrix = np.empty((people * templates, 512), np.float32)
    for start in range(0, len(matrix), 65_536):
        block = matrix[start : start + 65_536]
        rng.standard_normal(dtype=np.float32, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    owners = np.repeat(np.arange(people, dtype=np.int32), templates)
    return TemplateSet(matrix, owners, tuple(f"resident-{n:07d}" for n in range(people)))


def _is_crop(feed: dict[str, Vector]) -> bool:
    (given,) = feed.values()
    return given.shape[-2:] == (112, 112)
