"""What the fake camera's pictures are made of: people cut out of photographs, and a bus door.

A passenger's head and shoulders come from a photograph, freed of what is around them; below, their
clothes are carried on to the floor. The door is drawn: outside, frame, sliding leaves, handrails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.base.values import Box, Image

Floats = NDArray[np.float32]

FACE_PIXELS = 112  # width of the face in a cut-out
_HALF = 1.35  # reach of a cut-out to each side of the face's middle, in face widths
_ABOVE = 1.55  # and above it
_PHOTO = 1.75  # the photograph's part below it
_BELOW = 8.0  # and down to the floor
_VIVID = 140.0  # clothes whose strongest and weakest primary differ by more keep their colour


@dataclass(frozen=True, slots=True, eq=False)
class Passenger:
    """Somebody to be cut out: BGR *photograph*, their *face* in it, and the *others* next to it."""

    key: str
    photograph: Image
    face: Box
    others: tuple[Box, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Cutout:
    """A passenger without background: float32 (rows, columns, 4), BGR (0..255) times alpha (0..1).

    ``centre`` is the middle of the face, ``face`` its (width, height), all in its own pixels.
    """

    picture: Floats
    centre: tuple[float, float]
    face: tuple[float, float]

    def halved(self) -> Cutout:
        """The same at half the size, so that far passengers are drawn without aliasing."""
        height, width = self.picture.shape[:2]
        size = (width // 2, height // 2)
        across, down = size[0] / width, size[1] / height
        return Cutout(
            _floats(cv2.resize(self.picture, size, interpolation=cv2.INTER_AREA)),
            (self.centre[0] * across, self.centre[1] * down),
            (self.face[0] * across, self.face[1] * down),
        )


def cut_out(passenger: Passenger) -> Cutout:
    """Free *passenger* from the photograph, with a soft edge and a body down to the floor."""
    x1, y1, x2, y2 = passenger.face
    scale = FACE_PIXELS / (x2 - x1)
    face = (float(FACE_PIXELS), (y2 - y1) * scale)
    width = round(2 * _HALF * FACE_PIXELS)
    photo_rows = round((_ABOVE + _PHOTO) * FACE_PIXELS)
    centre = (width / 2, _ABOVE * FACE_PIXELS)
    move = np.array(
        [
            [scale, 0, centre[0] - scale * (x1 + x2) / 2],
            [0, scale, centre[1] - scale * (y1 + y2) / 2],
        ]
    )
    bust = cv2.warpAffine(
        passenger.photograph,
        move,
        (width, photo_rows),
        flags=cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REPLICATE,
    )
    others = [_moved(other, move) for other in passenger.others]
    alpha = _bust_mask(bust.astype(np.uint8), centre, face[1], others)
    return _with_body(bust.astype(np.float32), alpha, centre, face)


def _bust_mask(bust: Image, centre: tuple[float, float], tall: float, others: list[Box]) -> Floats:
    """1 on the person, 0 beside: GrabCut, kept within what a head and shoulders can be."""
    # Worked out at half size: four times as fast, and the edge is softened anyway.
    rows, columns = bust.shape[0] // 2, bust.shape[1] // 2
    small = cv2.resize(bust, (columns, rows), interpolation=cv2.INTER_AREA)
    wide, tall = FACE_PIXELS / 2, tall / 2
    x, y = centre[0] / 2, centre[1] / 2
    mask = np.full((rows, columns), cv2.GC_BGD, np.uint8)
    for grow, value in ((1.0, cv2.GC_PR_BGD), (0.84, cv2.GC_PR_FGD)):
        cv2.fillPoly(mask, [_shoulders(x, y, wide * grow, tall, rows)], value)
        head = (round(x), round(y - 0.14 * tall))
        axes = (round(0.92 * wide * grow), round(0.92 * tall * grow))
        cv2.ellipse(mask, head, axes, 0, 0, 360, value, cv2.FILLED)
    for box in others:
        x1, y1, x2, y2 = (edge / 2 for edge in box)
        grow = 0.25 * (x2 - x1)
        away = (round(x1 - grow), round(y1 - grow)), (round(x2 + grow), round(y2 + grow))
        cv2.rectangle(mask, *away, cv2.GC_BGD, cv2.FILLED)
    sure = np.zeros((rows, columns), np.uint8)
    # Face and hair: dark hair before a dark hall would be taken for the hall.
    axes = (round(wide * 0.52), round(tall * 0.66))
    cv2.ellipse(sure, (round(x), round(y - 0.13 * tall)), axes, 0, 0, 360, 1, cv2.FILLED)
    chest = round(x - wide * 0.5), round(y + tall * 0.85)
    cv2.rectangle(sure, chest, (round(x + wide * 0.5), rows), 1, cv2.FILLED)
    mask[sure > 0] = cv2.GC_FGD
    cv2.setRNGSeed(1)  # GrabCut clusters colours from random starts
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, mask, (0, 0, columns, rows), *models, 2, cv2.GC_INIT_WITH_MASK)
    person = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, kernel).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, kernel).astype(np.uint8)
    person[sure > 0] = 1
    _, labels = cv2.connectedComponents(person)
    whole = (labels == labels[round(y), round(x)]).astype(np.uint8)
    soft = cv2.GaussianBlur(_floats(cv2.erode(whole, kernel[1:4, 1:4])), (0, 0), 1.3)
    return _floats(cv2.resize(soft, (bust.shape[1], bust.shape[0])))


def _shoulders(x: float, y: float, wide: float, tall: float, bottom: float) -> NDArray[np.int32]:
    """Outline of neck and shoulders of a broad person whose face's middle is at (x, y)."""
    chin = y + tall * 0.5
    right = [
        (0.60 * wide, chin - 0.3 * tall),
        (0.75 * wide, chin + 0.1 * tall),
        (1.22 * wide, chin + 0.42 * tall),
        (1.32 * wide, bottom),
    ]
    outline = [(x + off, row) for off, row in right] + [(x - off, row) for off, row in right[::-1]]
    return np.asarray(np.array(outline).round(), np.int32)


def _with_body(
    bust: Floats, alpha: Floats, centre: tuple[float, float], face: tuple[float, float]
) -> Cutout:
    """Put a coat in the colour of their clothes under the photograph, down to the floor."""
    photo_rows, columns = alpha.shape
    rows = round((_ABOVE + _BELOW) * FACE_PIXELS)
    weight = alpha[-20:, :, None] + 1e-3
    cloth = (bust[-20:] * weight).sum((0, 1)) / weight.sum((0, 1))
    if np.ptp(cloth) < _VIVID:
        cloth = 0.45 * cloth + np.array([26.0, 16.0, 12.0])  # not a coat the colour of skin
    y = np.arange(rows, dtype=np.float32)[:, None]
    across = np.abs(np.arange(columns, dtype=np.float32) - centre[0])[None, :]
    shoulder = centre[1] + 0.78 * face[1]
    # A quarter of an ellipse makes the shoulder, then the coat narrows a little to its hem.
    round_off = np.clip((y - shoulder) / (0.62 * FACE_PIXELS), 0.0, 1.0)
    fall = np.clip((y - photo_rows) / (rows - photo_rows), 0.0, 1.0)
    half = FACE_PIXELS * (1.16 * np.sqrt(1 - (1 - round_off) ** 2) - 0.22 * fall)
    coat = np.clip((half - across) / 4.0, 0.0, 1.0) * np.clip((y - shoulder) / 4.0, 0.0, 1.0)
    coat *= np.clip((rows - y) / (0.3 * FACE_PIXELS), 0.0, 1.0)
    fold = 1.0 + 0.05 * np.sin(across / FACE_PIXELS * 9.0)
    side = 1.0 - 0.25 * (across / (_HALF * FACE_PIXELS)) ** 2
    colour = cloth * (fold * side * (1.0 - 0.45 * fall))[..., None] * coat[..., None]
    # The photograph fades out over its lowest part: no seam, no neighbour's elbow.
    fade = np.clip((photo_rows - y[:photo_rows]) / (0.5 * FACE_PIXELS), 0.0, 1.0)
    top = alpha * fade
    colour[:photo_rows] = bust * top[..., None] + colour[:photo_rows] * (1 - top[..., None])
    coat[:photo_rows] = top + coat[:photo_rows] * (1 - top)
    return Cutout(_floats(np.dstack([colour, coat])), centre, face)


def draw_outside(width: int, height: int, rng: np.random.Generator) -> Image:
    """A street seen out of focus through the open door: sky, hills, houses, kerb, a stop's pole."""
    sky = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    top, low = _floats([214, 186, 150]), _floats([236, 228, 214])
    scene = np.broadcast_to(top * (1 - sky) + low * sky, (height, width, 3)).copy()
    horizon = round(height * 0.46)
    x = np.arange(width)
    for depth, tone in enumerate(((150, 168, 140), (112, 148, 118))):
        ridge = 26 * np.sin(x / (70 + 30 * depth) + rng.uniform(0, 6)) + rng.uniform(22, 40)
        points = np.stack([x, horizon - ridge * (1 - 0.35 * depth)], axis=1)
        hill = np.vstack([points, [[width, height], [0, height]]]).astype(np.int32)
        cv2.fillPoly(scene, [hill], tone)
    left = -20.0
    while left < width:
        wide, tall = rng.uniform(60, 120), rng.uniform(60, 150)
        wall = rng.uniform(0.75, 1.0) * np.array([205, 214, 222]) - rng.uniform(0, 25, 3)
        base = horizon + 26
        corner = (round(left), round(base - tall)), (round(left + wide), base)
        cv2.rectangle(scene, *corner, wall.tolist(), cv2.FILLED)
        for row in np.arange(base - tall + 14, base - 16, 30):
            for column in np.arange(left + 10, left + wide - 16, 26):
                pane = (round(column), round(row)), (round(column + 13), round(row + 16))
                cv2.rectangle(scene, *pane, (150, 132, 112), cv2.FILLED)
        left += wide + rng.uniform(4, 40)
    cv2.rectangle(scene, (0, horizon + 26), (width, height), (168, 170, 172), cv2.FILLED)
    cv2.rectangle(scene, (0, horizon + 70), (width, horizon + 78), (206, 208, 210), cv2.FILLED)
    pole = round(rng.uniform(0.30, 0.70) * width)
    cv2.rectangle(scene, (pole, horizon - 70), (pole + 5, horizon + 84), (120, 120, 122), -1)
    cv2.circle(scene, (pole + 2, horizon - 78), 20, (96, 128, 40), cv2.FILLED)
    cv2.circle(scene, (pole + 2, horizon - 78), 13, (240, 244, 244), cv2.FILLED)
    return np.asarray(cv2.GaussianBlur(scene, (0, 0), 3.2).astype(np.uint8), np.uint8)


def draw_door(width: int, height: int, opening: float) -> tuple[Floats, Floats]:
    """The door from inside with its leaves *opening* (0 shut to 1).

    A picture behind it is multiplied by the second array, then the first is added; both are
    (height, width, 3).
    """
    colour: Floats = np.zeros((height, width, 3), np.float32)
    alpha: Floats = np.zeros((height, width), np.float32)
    jamb_left, jamb_right = round(width * 0.14), round(width * 0.86)
    lintel, sill = round(height * 0.07), round(height * 0.90)
    middle = (jamb_left + jamb_right) / 2
    leaf = (middle - jamb_left) * (1 - 0.93 * opening)
    for edge, way in ((jamb_left, 1), (jamb_right, -1)):
        inner = edge + way * leaf
        pane = (round(min(edge, inner)), lintel), (round(max(edge, inner)), sill)
        cv2.rectangle(colour, *pane, (62, 66, 64), cv2.FILLED)
        cv2.rectangle(alpha, *pane, 0.34, cv2.FILLED)
        cv2.rectangle(colour, *pane, (58, 56, 54), 9)
        cv2.rectangle(alpha, *pane, 1.0, 9)
    _solid(colour, alpha, (0, 0), (jamb_left, height), (116, 112, 106))
    _solid(colour, alpha, (jamb_right, 0), (width, height), (116, 112, 106))
    _solid(colour, alpha, (0, 0), (width, lintel), (92, 88, 84))
    _solid(colour, alpha, (0, sill), (width, height), (74, 76, 80))
    _solid(colour, alpha, (0, sill), (width, sill + 7), (60, 190, 214))
    for edge in (jamb_left, jamb_right):
        _solid(colour, alpha, (edge - 4, 0), (edge + 4, height), (64, 60, 58))
    shade = np.linspace(1.12, 0.72, height, dtype=np.float32)[:, None, None]
    colour *= shade
    for rail in (round(width * 0.085), round(width * 0.915)):
        for off, tone in ((-7, 0.62), (-4, 0.9), (-1, 1.12), (3, 0.85)):
            paint = [64 * tone, 186 * tone, 238 * tone]
            _solid(colour, alpha, (rail + off, 0), (rail + off + 4, height), tuple(paint))
    colour = _floats(cv2.GaussianBlur(colour, (0, 0), 0.9))
    alpha = _floats(cv2.GaussianBlur(alpha, (0, 0), 0.9))
    behind = np.repeat(1.0 - alpha[..., None], 3, axis=2)
    return colour * alpha[..., None], _floats(behind)


def _solid(
    colour: Floats,
    alpha: Floats,
    corner: tuple[int, int],
    opposite: tuple[int, int],
    paint: tuple[float, ...],
) -> None:
    rows, columns = slice(corner[1], opposite[1]), slice(corner[0], opposite[0])
    colour[rows, columns] = paint
    alpha[rows, columns] = 1.0


def _moved(box: Box, move: NDArray[np.float64]) -> Box:
    x1, y1 = move @ np.array([box[0], box[1], 1.0])
    x2, y2 = move @ np.array([box[2], box[3], 1.0])
    return float(x1), float(y1), float(x2), float(y2)


def _floats(values: object) -> Floats:
    return np.asarray(values, dtype=np.float32)
