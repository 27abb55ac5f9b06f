"""Synthetic people for gallery tests: ids, nicknames and random unit templates, by number."""

from __future__ import annotations

import numpy as np

from agent.base.values import Vector
from agent.gallery.gallery import Gallery
from agent.keys.ring import KeyRing
from agent.recognition.fusion import Means
from tests.vectors import unit

RING = KeyRing(bytes(range(32)))
OTHER_RING = KeyRing(bytes(range(1, 33)))
PACK = "buffalo_s"
NOW_MS = 1_790_000_000_000


def person_id(number: int) -> str:
    return f"resident-{number:05d}"


def nickname(number: int) -> str:
    return f"さくら{number:03d}"


def templates(number: int, rows: int = 3, values: int = 512) -> Vector:
    return unit(np.random.default_rng(number).standard_normal((rows, values)))


def enroll(gallery: Gallery, *numbers: int) -> None:
    for number in numbers:
        gallery.enroll(person_id(number), templates(number), nickname(number), now_ms=NOW_MS)


def one(rows: Vector) -> Vector:
    """What the gallery makes of the templates of one person: one, float32 (1, d)."""
    means = Means(1, rows.shape[1])
    for row in rows:
        assert means.add(0, row)
    return means.rows()


def loaded(gallery: Gallery) -> dict[str, Vector]:
    """The template of each as loaded, float32 (1, d), by id."""
    found = gallery.load()
    return {name: found.matrix[found.owners == number] for number, name in enumerate(found.ids)}
