"""From pictures or a clip of one person to the templates the gallery keeps.

The same quality gate as at the door judges every view; what is refused is refused with a reason a
person can act on. Nothing of the pictures is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from agent.base.errors import ImageError
from agent.base.ports import FaceDetector, FaceEmbedder
from agent.base.values import Face, Frame, Image, Quality, Vector
from agent.recognition.fusion import template

# A second face at least this wide, against the largest, makes it unclear who is meant.
BYSTANDER_SHARE = 0.5
# Views of one person from different pictures: LFW's genuine pairs reach down to 0.33 at 1%, and one
# pair of strangers in 2,000 reaches this. It is asked of the mean over many pairs: of a hundred
# frames, or through one poor view, some pair of two people may well be this much alike.
SAME_PERSON = 0.25

ADVICE = {
    "too_small": "the face is too small: come closer or use a larger picture",
    "cut_off": "the face is cut off by the edge: centre it",
    "turned_away": "the face is turned away: look at the camera",
    "blurred": "the picture is blurred: hold still or focus",
    "too_dark": "the face is too dark: more light from the front",
    "too_bright": "the face is too bright: less light",
}


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    reference: Vector
    quality: float

    @property
    def embedding(self) -> Vector:
        """The reference's direction alone, length 1."""
        unit: Vector = self.reference / np.float32(np.linalg.norm(self.reference))
        return unit


@dataclass(frozen=True, slots=True, eq=False)
class Enrolled:
    """The template ready for the gallery, float32 (1, d), and how it came about."""

    templates: Vector
    views_seen: int
    views_used: int


class Enroller:
    """Collects views of one person at a time and makes their template."""

    def __init__(
        self,
        detector: FaceDetector,
        embedder: FaceEmbedder,
        judge: Callable[[Image, Face], Quality],
        *,
        min_images: int,
        max_views: int,
    ) -> None:
        """Of at least *min_images* views the *max_views* most varied make the template."""
        self._detector = detector
        self._embedder = embedder
        self._judge = judge
        self._min_images = min_images
        self._max_views = max_views

    def enrol(self, sources: Iterable[tuple[str, Iterable[Frame]]]) -> Enrolled:
        """The template from *sources*: (name for messages, frames), all of one person.

        A photograph must show exactly one person, in usable quality; of a clip the usable frames
        are taken. Raises ImageError naming the source, the reason and what to do.
        """
        views: list[_View] = []
        seen = 0
        for name, frames in sources:
            found, looked_at = self._views_of(name, frames)
            seen += looked_at
            self._check_same(name, views, found)
            views += found
        if len(views) < self._min_images:
            raise ImageError(
                f"{len(views)} usable view(s), but enrolment.min_images = {self._min_images}: give "
                "more pictures of the same person in varied pose, or a short clip"
            )
        # A clip has a hundred frontal frames and five of each side: all would count as one view.
        chosen = _varied(views, self._max_views)
        made = template(np.stack([v.reference for v in chosen]), [v.quality for v in chosen])
        return Enrolled(made[np.newaxis], seen, len(views))

    def _views_of(self, name: str, frames: Iterable[Frame]) -> tuple[list[_View], int]:
        views: list[_View] = []
        refused: Counter[str] = Counter()
        looked_at = 0
        for frame in frames:
            looked_at += 1
            face, reason = self._only_face(frame)
            if face is None:
                refused[reason] += 1
                continue
            quality = self._judge(frame.image, face)
            if not quality.usable:
                refused[ADVICE.get(quality.reason, quality.reason)] += 1
                continue
            reference = self._embedder.embed_reference(frame.image, [face])[0]
            views.append(_View(reference, quality.score))
        if not looked_at:
            raise ImageError(f"{name}: there is no picture in it; give a photograph or a clip")
        if not views:
            raise ImageError(f"{name}: {refused.most_common(1)[0][0]}")
        self._check_one_person(name, views)
        return views, looked_at

    def _only_face(self, frame: Frame) -> tuple[Face | None, str]:
        faces = sorted(self._detector.detect(frame.image), key=lambda face: -face.width)
        if not faces:
            return None, "no face was found: use a picture that shows one face from the front"
        rivals = [f for f in faces[1:] if f.width >= BYSTANDER_SHARE * faces[0].width]
        if rivals:
            count = len(rivals) + 1
            return None, f"{count} faces are in it: use a picture of the one person alone"
        return faces[0], ""

    def _check_one_person(self, name: str, views: list[_View]) -> None:
        if len(views) > 1 and _apart(np.stack([view.embedding for view in views])) < SAME_PERSON:
            raise ImageError(f"{name}: it shows more than one person; give a clip of one alone")

    def _check_same(self, name: str, before: list[_View], new: list[_View]) -> None:
        if not before:
            return
        similarity = float(
            (
                np.stack([v.embedding for v in new]) @ np.stack([v.embedding for v in before]).T
            ).mean()
        )
        if similarity < SAME_PERSON:
            raise ImageError(
                f"{name}: this is not the person of the pictures before it (similarity "
                f"{similarity:.2f}); enrol each person by themselves"
            )


def _apart(rows: Vector) -> float:
    """The mean cosine between the two groups that unit *rows*, (n, d), n > 1, fall into.

    Average linkage (Sokal and Michener 1958). The mean of all views is no yardstick: where two
    people share a clip it lies between them, at a cosine of 0.7 to both.
    """
    # A door, which enrols nobody, starts without it.
    from scipy.cluster.hierarchy import linkage  # noqa: PLC0415

    above = np.triu_indices(len(rows), 1)
    distances = np.maximum(1.0 - (rows @ rows.T)[above].astype(np.float64), 0.0)
    return 1.0 - float(linkage(distances, "average")[-1, 2])


def _varied(views: list[_View], count: int) -> list[_View]:
    """The best view, then repeatedly the good one least like those chosen (farthest point)."""
    if len(views) <= count:
        return views
    best = max(view.quality for view in views)
    pool = [view for view in views if view.quality >= 0.5 * best]
    chosen = [max(pool, key=lambda view: view.quality)]
    rows = np.stack([view.embedding for view in pool])
    nearest = rows @ chosen[0].embedding
    while len(chosen) < min(count, len(pool)):
        index = int(np.argmin(nearest))
        chosen.append(pool[index])
        nearest = np.maximum(nearest, rows @ pool[index].embedding)
    return chosen
