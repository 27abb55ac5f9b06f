"""What the commands of ``kaopass liveness`` read: files, sequences, kinds of attack, and scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.base.errors import UsageError
from agent.settings.model import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.base.ports import Camera, LivenessModel
    from agent.base.values import Frame
    from agent.settings.model import Settings
    from agent.vision.examine import Examiner, View

paths_type = click.Path(path_type=Path)


def settings_of(settings_file: Path | None) -> Settings:
    """The settings; without a file the default pack's research licence is assumed, to try out."""
    return load(settings_file, None if settings_file else {"models": {"licence": "research"}})


def open_examiner(settings: Settings, model: LivenessModel | None = None) -> Examiner:
    """Detector and liveness network of *settings*, whatever its mode; or *model* as the latter."""
    from agent.vision.examine import Examiner
    from agent.wiring.parts import open_liveness, open_networks, quality_gate

    networks = open_networks(settings)
    return Examiner(networks.detector, quality_gate(settings), model or open_liveness(settings))


def files_under(path: Path) -> list[Path]:
    """The pictures and clips of a folder and all below it, or the file itself."""
    from agent.hw.cameras.file import VIDEO_SUFFIXES
    from agent.hw.cameras.shared.pictures import PICTURE_SUFFIXES

    if not path.exists():
        raise UsageError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        return [path]
    known = PICTURE_SUFFIXES + VIDEO_SUFFIXES
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in known)
    if not files:
        raise UsageError(
            f"{path}: no pictures or clips in it; these can be read: {', '.join(known)}"
        )
    return files


def kinds_under(path: Path) -> dict[str, list[Path]]:
    """Each subfolder's files by its name."""
    if not path.is_dir():
        raise UsageError(f"{path}: must be a folder with one subfolder for each kind of attack")
    kinds = {
        folder.name: files_under(folder) for folder in sorted(path.iterdir()) if folder.is_dir()
    }
    if not kinds:
        raise UsageError(f"{path}: has no subfolder; put each kind of attack into one")
    return kinds


def sequences(examiner: Examiner, files: Iterable[Path]) -> dict[str, list[View]]:
    """The views of every presentation, by its name; one without any face has none."""
    from agent.vision.examine import sequence_name
    from agent.wiring.devices import enrolment_frames

    found: dict[str, list[View]] = {}
    for file in files:
        frames = list(_thinned(enrolment_frames(str(file))))
        name = sequence_name(file) if frames and frames[0].still else str(file)
        found.setdefault(name, []).extend(examiner.views(frames))
    return found


def scores(examiner: Examiner, files: Iterable[Path]) -> dict[str, float]:
    """The fused score of every presentation; 0 where no face was found, as the door refuses it."""
    from agent.vision.examine import sequence_score

    return {
        name: sequence_score(views) if views else 0.0
        for name, views in sequences(examiner, files).items()
    }


def live_scores(
    examiner: Examiner, files: Iterable[Path]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The fused score of every presentation, and the names of those in which no face was found.

    These have no score: the detector missed them, which no liveness threshold mends.
    """
    from agent.vision.examine import sequence_score

    found = sequences(examiner, files)
    return (
        {name: sequence_score(views) for name, views in found.items() if views},
        tuple(name for name, views in found.items() if not views),
    )


def camera_scores(examiner: Examiner, settings: Settings, seconds: float) -> dict[str, float]:
    """The fused score of everybody whom the camera of *settings* sees long enough to be judged."""
    from agent.vision.liveness import UNSURE
    from agent.wiring.devices import open_camera

    camera = open_camera(settings.camera, examiner.detector)
    camera.open()
    try:
        found = examiner.check(
            _for(camera, seconds),
            threshold=0.0,
            min_frames=settings.decision.min_frames,
            lost_ms=round(settings.vision.lost_seconds * 1000),
        )
    finally:
        camera.close()
    judged = [item.verdict.score for item in found if item.verdict.reason != UNSURE]
    return {f"before the camera, {number}": score for number, score in enumerate(judged, start=1)}


def _for(camera: Camera, seconds: float) -> Iterator[Frame]:
    first_ms: int | None = None
    while (frame := camera.read()) is not None:
        first_ms = frame.t_ms if first_ms is None else first_ms
        if frame.t_ms - first_ms >= 1000 * seconds:
            return
        yield frame


def _thinned(frames: Iterable[Frame]) -> Iterator[Frame]:
    """A picture as it is; of a clip a frame about five times a second, and no more than 24."""
    from agent.vision.liveness import MAX_VIEWS

    next_ms, count = 0, 0
    for frame in frames:
        if frame.t_ms >= next_ms and count < MAX_VIEWS:
            next_ms, count = frame.t_ms + 190, count + 1
            yield frame
