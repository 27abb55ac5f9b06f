"""How alive faces look to this device's camera, and the threshold set by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.base.audit import AuditLog, audited
from agent.base.ports import Camera
from agent.base.values import Frame
from agent.vision.examine import Examiner, View, sequence_name, sequence_score
from agent.vision.liveness import MAX_VIEWS, UNSURE
from agent.vision.threshold import CameraThreshold, choose, save

Reader = Callable[[str], Iterable[Frame]]  # the frames of a picture or clip; raises CameraError


@dataclass(frozen=True, slots=True)
class CameraCalibrated:
    """What was chosen, and the score of every attack by its kind; 0 where no face was found."""

    chosen: CameraThreshold
    attacks: Mapping[str, tuple[float, ...]]


def sequences(examiner: Examiner, files: Iterable[Path], read: Reader) -> dict[str, list[View]]:
    """The views of every presentation, by its name; one without any face has none."""
    found: dict[str, list[View]] = {}
    for file in files:
        frames = list(_thinned(read(str(file))))
        name = sequence_name(file) if frames and frames[0].still else str(file)
        found.setdefault(name, []).extend(examiner.views(frames))
    return found


def scores(examiner: Examiner, files: Iterable[Path], read: Reader) -> dict[str, float]:
    """The fused score of every presentation; 0 where no face was found, as the door refuses it."""
    return {
        name: sequence_score(views) if views else 0.0
        for name, views in sequences(examiner, files, read).items()
    }


def live_scores(
    examiner: Examiner, files: Iterable[Path], read: Reader
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The fused score of every presentation, and the names of those in which no face was found.

    These have no score: the detector missed them, which no liveness threshold mends.
    """
    found = sequences(examiner, files, read)
    return (
        {name: sequence_score(views) for name, views in found.items() if views},
        tuple(name for name, views in found.items() if not views),
    )


def camera_scores(
    examiner: Examiner, camera: Camera, seconds: float, *, min_frames: int, lost_ms: int
) -> dict[str, float]:
    """The fused score of everybody whom *camera* sees long enough to be judged."""
    camera.open()
    try:
        found = examiner.check(
            _for(camera, seconds), threshold=0.0, min_frames=min_frames, lost_ms=lost_ms
        )
    finally:
        camera.close()
    judged = [item.verdict.score for item in found if item.verdict.reason != UNSURE]
    return {f"before the camera, {number}": score for number, score in enumerate(judged, start=1)}


def calibrate_camera(
    examiner: Examiner,
    live: Sequence[float],
    attacks: Mapping[str, Sequence[Path]],
    read: Reader,
    *,
    pack: str,
    bpcer: float,
    file: Path | None,
    audit: AuditLog | None,
    actor: str,
) -> CameraCalibrated:
    """The threshold that refuses at most the share *bpcer* of the *live* scores, kept in *file*.

    *attacks* are the files of each kind, shown to see what would pass; with None for *file*
    nothing is kept. Raises UsageError where ``threshold.choose`` and ``save`` do.
    """
    with audited(audit, actor) as note:
        found = choose(pack, live, bpcer)
        passed = {
            kind: tuple(scores(examiner, files, read).values()) for kind, files in attacks.items()
        }
        if file is not None:
            note("liveness.calibrated", threshold=f"{found.threshold:.4f}", live=found.live)
            save(file, found)
    return CameraCalibrated(found, passed)


def _for(camera: Camera, seconds: float) -> Iterator[Frame]:
    first_ms: int | None = None
    while (frame := camera.read()) is not None:
        first_ms = frame.t_ms if first_ms is None else first_ms
        if frame.t_ms - first_ms >= 1000 * seconds:
            return
        yield frame


def _thinned(frames: Iterable[Frame]) -> Iterator[Frame]:
    """A picture as it is; of a clip a frame about five times a second, and no more than 24."""
    next_ms, count = 0, 0
    for frame in frames:
        if frame.t_ms >= next_ms and count < MAX_VIEWS:
            next_ms, count = frame.t_ms + 190, count + 1
            yield frame
