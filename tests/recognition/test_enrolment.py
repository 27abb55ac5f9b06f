"""One id answers to one person: pictures or a clip of two are refused, whoever they are.

The people are those of pictures that installed packages carry; none is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations

import cv2
import numpy as np
import pytest

from agent.base.errors import ImageError
from agent.base.values import Face, Frame, Image, Quality, Vector
from agent.recognition.enrolment import Enrolled, Enroller
from agent.settings.model import load
from agent.sim.attacks import subjects
from agent.wiring.parts import Networks, enroller, open_networks
from tests.vectors import unit

PEOPLE = 5  # of those in the packages' pictures


class Remembered:
    """The real networks, each asked once about a picture: every clip here shows the same few."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._faces: dict[bytes, list[Face]] = {}
        self._rows: dict[bytes, Vector] = {}
        self.pack = networks.embedder.pack

    def detect(self, image: Image) -> list[Face]:
        name = image.tobytes()
        if name not in self._faces:
            self._faces[name] = self._networks.detector.detect(image)
        return self._faces[name]

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        return self._networks.embedder.embed(image, faces)

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        name = image.tobytes() + b"".join(face.landmarks.tobytes() for face in faces)
        if name not in self._rows:
            self._rows[name] = self._networks.embedder.embed_reference(image, faces)
        return self._rows[name]


@cache
def real() -> Enroller:
    settings = load(None, {"models": {"licence": "research"}})
    networks = open_networks(settings)
    once = Remembered(networks)
    return enroller(settings, replace(networks, detector=once, embedder=once), min_images=1)


@cache
def portraits() -> list[Image]:
    """The largest faces of the pictures, each alone with its surroundings."""
    detector = open_networks(load(None, {"models": {"licence": "research"}})).detector
    found = []
    for subject in sorted(subjects(detector), key=lambda each: -each.face.width):
        x1, y1, x2, y2 = subject.face.box
        side = 0.6 * max(x2 - x1, y2 - y1)
        height, width = subject.photograph.shape[:2]
        left, top = max(0, int(x1 - side)), max(0, int(y1 - side))
        cut = subject.photograph[
            top : min(height, int(y2 + side)), left : min(width, int(x2 + side))
        ]
        try:
            real().enrol([("a photograph", stills([cut]))])
        except ImageError:
            continue  # a neighbour reaches into it
        found.append(cut)
    return found[:PEOPLE]


def stills(images: Sequence[Image]) -> Iterator[Frame]:
    return (Frame(image, n, 0, 0, still=True) for n, image in enumerate(images))


def clip(*images: Image) -> Iterator[Frame]:
    """Each of *images* for six frames, a little brighter or darker and nearer each time."""
    for n, image in enumerate(image for image in images for _ in range(6)):
        scale = 1.0 + 0.02 * (n % 6)
        nearer = cv2.resize(image, None, fx=scale, fy=scale)
        lit = np.clip(nearer.astype(np.float32) * (0.9 + 0.03 * (n % 6)), 0, 255)
        yield Frame(lit.astype(np.uint8), n, 67 * n, 67 * n)


@pytest.mark.slow
def test_a_clip_of_two_people_one_after_the_other_is_refused_whoever_they_are() -> None:
    assert len(portraits()) == PEOPLE
    for one, other in permutations(portraits(), 2):
        with pytest.raises(ImageError, match="in the clip: it shows more than one person"):
            real().enrol([("in the clip", clip(one, other))])


@pytest.mark.slow
def test_a_clip_of_one_person_is_taken() -> None:
    for image in portraits():
        assert real().enrol([("a clip", clip(image))]).views_used == 6


def test_a_photograph_of_somebody_else_is_refused() -> None:
    one, other = portraits()[:2]
    with pytest.raises(ImageError, match=r"second: this is not the person .* \(similarity -?0\.\d"):
        real().enrol([("first", stills([one])), ("second", stills([other]))])


class Given:
    """Detector and embedder of frames whose first pixels say which of *rows* they show."""

    pack = "made-up"

    def __init__(self, rows: Vector) -> None:
        self._rows = rows

    def detect(self, image: Image) -> list[Face]:
        return [Face((0.0, 0.0, 99.0, 99.0), 0.9, np.zeros((5, 2), np.float32))]

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        return self._rows[[int(image[0, 0, 0])]]

    embed_reference = embed


def enrolled(rows: Vector, *sources: Sequence[int]) -> Enrolled:
    """Enrol from *sources*, each the numbers of the *rows* that its frames show."""
    given = Given(rows)
    made = Enroller(given, given, lambda *_: Quality(0.9), min_images=1, max_views=5)
    return made.enrol(
        (f"clip {number}", (Frame(np.full((1, 1, 3), n, np.uint8), n, n, n) for n in source))
        for number, source in enumerate(sources)
    )


def chained() -> Vector:
    """Views of somebody, 0 to 19, and of another, 21 to 39; view 20 is as much like either."""
    rng = np.random.default_rng(8)
    ann, ben = np.linalg.qr(rng.standard_normal((64, 2)))[0].T
    rows = unit(np.stack([*[ann] * 20, ann + ben, *[ben] * 19]))
    return unit(rows + 0.4 / 8 * rng.standard_normal(rows.shape))


def test_a_view_that_resembles_two_people_does_not_make_one_of_them() -> None:
    rows = chained()
    assert (rows[20] @ rows.T).min() > 0.4  # it links everybody
    with pytest.raises(ImageError, match="clip 0: it shows more than one person"):
        enrolled(rows, range(40))
    with pytest.raises(ImageError, match="clip 1: this is not the person"):
        enrolled(rows, range(21), range(21, 40))
    assert enrolled(rows, range(20)).views_used == 20


@pytest.mark.parametrize("share", [1, 5, 10, 20, 35, 39])
def test_two_people_in_a_clip_are_told_apart_at_any_share(share: int) -> None:
    rows = chained()
    shown = [n % 20 for n in range(40 - share)] + [21 + n % 19 for n in range(share)]
    with pytest.raises(ImageError, match="more than one person"):
        enrolled(rows, shown)
