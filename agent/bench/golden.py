"""The golden values of a pack, from its networks as they are: the self-test believes them.

Only for a pack whose figures were just measured and found right.
"""

from __future__ import annotations

import hashlib

import numpy as np

from agent.hw.photographs import picture, read_picture
from agent.packs.manifest import GoldenValues
from agent.parts import Networks

PHOTOGRAPH = "t1.jpg"


def golden_values(networks: Networks) -> GoldenValues:
    """Landmarks of the people in the picture from left to right, and their cosines."""
    image = read_picture(PHOTOGRAPH)
    faces = sorted(networks.detector.detect(image), key=lambda face: face.box)
    points = [[round(float(v), 1) for v in face.landmarks.ravel()] for face in faces]
    for face, row in zip(faces, points, strict=True):
        face.landmarks[:] = np.reshape(row, (5, 2))  # as they are kept
    rows = networks.embedder.embed(image, faces)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    return GoldenValues(
        picture=PHOTOGRAPH,
        sha256=hashlib.sha256(picture(PHOTOGRAPH).read_bytes()).hexdigest(),
        landmarks=tuple(tuple(row) for row in points),
        cosines=tuple(round(float(value), 4) for value in cosines),
    )
