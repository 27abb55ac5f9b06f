"""Draws on a picture what was decided on each face: colour, shape and word, never colour alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from agent.base.values import Box, Image

Kind = Literal["match", "unknown", "rejected", "waiting"]

# BGR; white letters on each have a contrast above 4.5 (WCAG AA).
_COLOURS: dict[Kind, tuple[int, int, int]] = {
    "match": (56, 118, 20),
    "unknown": (150, 76, 32),
    "rejected": (40, 40, 190),
    "waiting": (96, 92, 88),
}
_WHITE = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MOSAIC_TILES = 6  # across a face: enough to see that somebody is there, not who


@dataclass(frozen=True, slots=True)
class Mark:
    """What to draw round one face; *label* is ASCII, as OpenCV's letters are."""

    box: Box
    label: str
    kind: Kind


def annotate(image: Image, marks: Iterable[Mark]) -> Image:
    """A copy of *image* with *marks*: full frame = match, corners = unknown, cross = rejected."""
    drawn: Image = image.copy()
    scale = max(0.45, image.shape[1] / 1100)
    for mark in marks:
        x1, y1, x2, y2 = (round(edge) for edge in mark.box)
        colour = _COLOURS[mark.kind]
        for thickness, paint in ((6, _WHITE), (3, colour)):
            if mark.kind == "match":
                cv2.rectangle(drawn, (x1, y1), (x2, y2), paint, thickness)
                _tick(drawn, x2, y2, paint, thickness)
            else:
                _corners(drawn, (x1, y1, x2, y2), paint, thickness)
            if mark.kind == "rejected":
                cv2.line(drawn, (x1, y1), (x2, y2), paint, thickness, cv2.LINE_AA)
                cv2.line(drawn, (x1, y2), (x2, y1), paint, thickness, cv2.LINE_AA)
        _plate(drawn, mark.label, (x1, y1), colour, scale)
    return drawn


def hide(image: Image, boxes: Sequence[Box]) -> Image:
    """A copy of *image* with a coarse mosaic over each face and its hair."""
    hidden: Image = image.copy()
    height, width = image.shape[:2]
    for x1, y1, x2, y2 in boxes:
        across, down = 0.35 * (x2 - x1), 0.35 * (y2 - y1)
        left, right = max(0, int(x1 - across)), min(width, int(x2 + across) + 1)
        top, bottom = max(0, int(y1 - 1.3 * down)), min(height, int(y2 + 0.6 * down) + 1)
        if left >= right or top >= bottom:
            continue
        part = hidden[top:bottom, left:right]
        tiles = cv2.resize(part, (_MOSAIC_TILES, _MOSAIC_TILES), interpolation=cv2.INTER_AREA)
        size = (right - left, bottom - top)
        hidden[top:bottom, left:right] = cv2.resize(tiles, size, interpolation=cv2.INTER_NEAREST)
    return hidden


def _corners(
    drawn: Image, box: tuple[int, int, int, int], paint: tuple[int, int, int], thickness: int
) -> None:
    x1, y1, x2, y2 = box
    arm = max(6, (x2 - x1) // 4)
    for x, y, right, down in ((x1, y1, 1, 1), (x2, y1, -1, 1), (x1, y2, 1, -1), (x2, y2, -1, -1)):
        bend = np.array([[x + right * arm, y], [x, y], [x, y + down * arm]], np.int32)
        cv2.polylines(drawn, [bend], isClosed=False, color=paint, thickness=thickness)


def _tick(drawn: Image, x: int, y: int, paint: tuple[int, int, int], thickness: int) -> None:
    line = np.array([[x - 16, y - 14], [x - 10, y - 7], [x + 6, y - 24]], np.int32)
    cv2.polylines(
        drawn, [line], isClosed=False, color=paint, thickness=thickness + 1, lineType=cv2.LINE_AA
    )


def _plate(
    drawn: Image,
    label: str,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    scale: float,
) -> None:
    (wide, high), below = cv2.getTextSize(label, _FONT, scale, 1)
    left = min(max(0, corner[0]), max(0, drawn.shape[1] - wide - 12))
    bottom = max(high + below + 8, corner[1] - 4)
    top = bottom - high - below - 8
    cv2.rectangle(drawn, (left, top), (left + wide + 12, bottom), colour, cv2.FILLED)
    where = (left + 6, bottom - below - 3)
    cv2.putText(drawn, label, where, _FONT, scale, _WHITE, 1, cv2.LINE_AA)
