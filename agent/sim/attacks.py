"""Synthetic presentation attacks: what a camera would see if a photograph were held before it.

Made in memory from a photograph of one face; nothing is written. They are drawings of attacks, not
attacks: a figure measured on them is labelled so, and says little about a real printer or screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.base.ports import FaceDetector
from agent.base.values import Box, Face, Frame, Image
from agent.sim.photographs import picture_names, read_picture
from agent.sim.scenery import draw_outside

Floats = NDArray[np.float32]

KINDS = ("print_held", "print_tilted", "print_bent", "print_eyes_cut", "screen")
WIDTH_PIXELS, HEIGHT_PIXELS = 640, 480
MIN_FACE_PIXELS = 40.0
MAX_FACE_PIXELS = 110.0  # a photograph is shown no larger than it is, and no larger than this
_FRAME_MS = 67
_SHEET = (
    1.15,
    1.05,
    1.45,
)  # reach of a sheet beside, above and below the face's middle, in heights
_BORDER = 0.07  # paper border or bezel, in sheet widths
_FOCAL = 3.0  # distance of the sheet from the camera, in sheet widths


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """Whose picture is shown: a BGR *photograph* and the *face* in it."""

    photograph: Image
    face: Face


def subjects(detector: FaceDetector, names: tuple[str, ...] = picture_names()) -> list[Subject]:
    """Everybody large enough in the photographs called *names*, which installed packages carry.

    Raises ImageError when a package is missing.
    """
    return subjects_in(detector, map(read_picture, names))


def subjects_in(detector: FaceDetector, photographs: Iterable[Image]) -> list[Subject]:
    """Everybody large enough in *photographs*."""
    found = []
    for photograph in photographs:
        for face in detector.detect(photograph):
            if face.width >= MIN_FACE_PIXELS:
                found.append(Subject(photograph, face))
    return found


def attack_clip(
    kind: str, subject: Subject, *, other: Subject | None = None, frames: int = 8, seed: int = 0
) -> Iterator[Frame]:
    """*frames* frames at 15 a second of one attack; the same for the same *seed*.

    *other* lends the living eyes behind "print_eyes_cut", which needs it. Raises ValueError for
    an unknown *kind*.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no attack {kind!r}; there are {', '.join(KINDS)}")
    rng = np.random.default_rng(seed)
    scene = draw_outside(WIDTH_PIXELS, HEIGHT_PIXELS, rng).astype(np.float32) * 0.7
    sheet, face = _cut(subject)
    lit = _screen(sheet) if kind == "screen" else _print(sheet, rng)
    phase = rng.uniform(0, 2 * math.pi, 4)
    for index in range(frames):
        t = index * _FRAME_MS / 1000
        shown = lit
        if kind == "print_eyes_cut":
            if other is None:
                raise ValueError("print_eyes_cut needs another face for the eyes")
            shown = _with_eyes(lit, face, other, shift=1.5 * math.sin(5 * t + phase[0]))
        shown = _bordered(shown, screen=kind == "screen")
        turn, bend = 0.05 * math.sin(2 * t + phase[1]), 0.0
        if kind == "print_tilted":
            turn = math.radians(38) * math.sin(3 * t + phase[1])
        if kind == "print_bent":
            bend = 0.9 + 0.35 * math.sin(4 * t + phase[1])
        shake = (3 * math.sin(9 * t + phase[2]), 3 * math.cos(7 * t + phase[3]))
        tilt = 0.04 * math.sin(3 * t + phase[2])
        picture = _placed(scene, shown, turn=turn, bend=bend, tilt=tilt, shake=shake)
        if kind == "screen":
            picture = _moire(picture, shown.shape, phase[0] + 0.8 * index)
        yield Frame(_through_camera(picture, rng), index, index * _FRAME_MS, index * _FRAME_MS)


def _cut(subject: Subject) -> tuple[Floats, Face]:
    """The part of the photograph a sheet shows, and the face in its pixels."""
    x1, y1, x2, y2 = subject.face.box
    scale = min(MAX_FACE_PIXELS / (x2 - x1), 1.0)
    tall = (y2 - y1) * scale
    beside, above, below = (reach * tall for reach in _SHEET)
    left, top = scale * (x1 + x2) / 2 - beside, scale * (y1 + y2) / 2 - above
    move = np.array([[scale, 0, -left], [0, scale, -top]])
    size = (round(2 * beside), round(above + below))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cut = cv2.warpAffine(
        subject.photograph, move, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )
    points = subject.face.landmarks * scale - np.array([left, top], np.float32)
    box: Box = (x1 * scale - left, y1 * scale - top, x2 * scale - left, y2 * scale - top)
    return cut.astype(np.float32), Face(box, subject.face.score, points.astype(np.float32))


def _print(sheet: Floats, rng: np.random.Generator) -> Floats:
    """Ink on paper: less contrast, paler, warmer, a printer's raster, a sheen across."""
    grey = sheet.mean(axis=2, keepdims=True)
    paper = 34 + 0.78 * (0.82 * sheet + 0.18 * grey)
    paper *= np.array([0.94, 0.99, 1.04])
    y, x = np.mgrid[: sheet.shape[0], : sheet.shape[1]]
    raster = np.sin(x * 2.2 + y * 1.3) * np.sin(y * 2.2 - x * 1.3)
    sheen = 14 * np.exp(-(((x - y - rng.uniform(-60, 60)) / 60) ** 2))
    return _floats(cv2.GaussianBlur(_floats(paper), (0, 0), 0.7) + (3 * raster + sheen)[..., None])


def _screen(sheet: Floats) -> Floats:
    """Light from a display: brighter, colder, black not quite black, rows of pixels."""
    glow = 12 + 1.08 * sheet * np.array([1.08, 1.02, 0.95])
    rows = 1 + 0.05 * np.sin(np.arange(sheet.shape[0]) * 2.6)
    columns = 1 + 0.05 * np.sin(np.arange(sheet.shape[1]) * 2.7)
    return _floats(np.clip(glow * rows[:, None, None] * columns[None, :, None], 0, 255))


def _with_eyes(sheet: Floats, face: Face, other: Subject, *, shift: float) -> Floats:
    """Holes cut at both eyes; somebody else's eyes move behind them."""
    result = sheet.copy()
    apart = float(np.hypot(*(face.landmarks[1] - face.landmarks[0])))
    theirs = float(np.hypot(*(other.face.landmarks[1] - other.face.landmarks[0])))
    zoom = apart / max(theirs, 1.0)
    size = (sheet.shape[1], sheet.shape[0])
    for eye in (0, 1):
        x, y = face.landmarks[eye]
        off = (
            face.landmarks[eye]
            - zoom * other.face.landmarks[eye]
            + np.array([shift, 1.0], np.float32)
        )
        move = np.array([[zoom, 0, off[0]], [0, zoom, off[1]]])
        behind = cv2.warpAffine(other.photograph, move, size).astype(np.float32)
        hole = np.zeros(sheet.shape[:2], np.float32)
        axes = (max(round(apart * 0.27), 2), max(round(apart * 0.14), 2))
        cv2.ellipse(hole, (round(float(x)), round(float(y))), axes, 0, 0, 360, 1.0, cv2.FILLED)
        depth = cv2.GaussianBlur(hole, (0, 0), apart * 0.05)  # the paper's shadow on the skin
        result = np.where(hole[..., None] > 0, behind * (0.4 + 0.6 * depth[..., None]), result)
    return _floats(result)


def _bordered(sheet: Floats, *, screen: bool) -> Floats:
    edge = round(_BORDER * sheet.shape[1])
    colour = (22.0, 20.0, 20.0) if screen else (226.0, 232.0, 236.0)
    framed = cv2.copyMakeBorder(sheet, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=colour)
    return _floats(framed)


def _placed(
    scene: Floats,
    sheet: Floats,
    *,
    turn: float,
    bend: float,
    tilt: float,
    shake: tuple[float, float],
) -> Floats:
    """*sheet* before *scene*: turned about its upright axis, bent to a cylinder, tilted, moved.

    Angles in radians; *bend* is half the angle of the arc the sheet covers; *shake* in pixels.
    """
    rows, columns = sheet.shape[:2]
    half, steps = columns / 2, 33
    across = np.linspace(-1, 1, steps)
    # Points of a sheet, first bent around an upright cylinder, then turned, then in perspective.
    x = np.sin(across * bend) / bend if bend else across
    depth = (1 - np.cos(across * bend)) / bend if bend else np.zeros(steps)
    turned_x = x * math.cos(turn) - depth * math.sin(turn)
    away = 1 + (x * math.sin(turn) + depth * math.cos(turn)) / (2 * _FOCAL)
    seen_x = half * turned_x / away
    middle = np.array([WIDTH_PIXELS / 2 + shake[0], HEIGHT_PIXELS / 2 + shake[1]])
    # For every pixel of the picture: which column of the sheet, and how much it is shrunk there.
    grid = np.mgrid[:HEIGHT_PIXELS, :WIDTH_PIXELS].astype(np.float32)
    gx, gy = grid[1] - middle[0], grid[0] - middle[1]
    rx = gx * math.cos(tilt) + gy * math.sin(tilt)
    ry = gy * math.cos(tilt) - gx * math.sin(tilt)
    order = np.argsort(seen_x)
    column = np.interp(rx, seen_x[order], (across[order] + 1) * half, left=-9, right=-9)
    shrink = np.interp(rx, seen_x[order], away[order])
    row = ry * shrink + rows / 2
    inside = (column >= 0) & (column <= columns - 1) & (row >= 0) & (row <= rows - 1)
    warped = cv2.remap(
        sheet, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR
    ).astype(np.float32)
    # A sheet turned away from the light is darker.
    light = 1.0 - 0.25 * abs(math.sin(turn)) - (0.2 * (rx / half) ** 2 if bend else 0.0)
    return _floats(np.where(inside[..., None], warped * np.asarray(light)[..., None], scene))


def _moire(picture: Floats, shape: tuple[int, ...], phase: float) -> Floats:
    """Beats between the display's pixels and the camera's, and a dark band that wanders."""
    y, x = np.mgrid[:HEIGHT_PIXELS, :WIDTH_PIXELS].astype(np.float32)
    inside = (abs(x - WIDTH_PIXELS / 2) < shape[1] * 0.43) & (
        abs(y - HEIGHT_PIXELS / 2) < shape[0] * 0.43
    )
    bent = 3 * np.sin(y / 40)
    colours = [np.sin(0.55 * x + 0.30 * y + bent + phase + shift) for shift in (0.0, 2.1, 4.2)]
    band = 0.06 * np.sin(2 * math.pi * y / HEIGHT_PIXELS + phase)
    gain = 1 + 0.05 * np.dstack(colours) + band[..., None]
    return _floats(np.where(inside[..., None], picture * gain, picture))


def _through_camera(picture: Floats, rng: np.random.Generator) -> Image:
    """Lens blur and sensor noise."""
    soft = cv2.GaussianBlur(picture, (0, 0), 0.6)
    noise = rng.normal(0, 2.5, picture.shape)
    return np.asarray(np.clip(soft + noise, 0, 255), np.uint8)


def _floats(values: object) -> Floats:
    return np.asarray(values, dtype=np.float32)
