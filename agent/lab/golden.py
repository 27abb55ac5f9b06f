"""The golden values of a pack, from its networks as they are: the self-test believes them.

Only for a pack whose figures were just measured and found right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from agent.device.selftest import golden_faces
from agent.packs.manifest import GoldenValues
from agent.sim.photographs import picture, read_picture
from agent.wiring.parts import Networks

PHOTOGRAPH = "t1.jpg"


def golden_values(networks: Networks) -> GoldenValues:
    """Landmarks of the people in the picture from left to right, their cosines and, of networks
    opened with it, what the liveness network says of them."""
    image = read_picture(PHOTOGRAPH)
    faces = sorted(networks.detector.detect(image), key=lambda face: face.box)
    points = [[round(float(v), 1) for v in face.landmarks.ravel()] for face in faces]
    for face, row in zip(faces, points, strict=True):
        face.landmarks[:] = np.reshape(row, (5, 2))  # as they are kept
    rows = networks.embedder.embed(image, faces)
    cosines = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
    odds: Sequence[float] = ()
    if networks.liveness is not None:
        kept = np.asarray(points, np.float32).reshape(-1, 5, 2)
        odds = [round(float(v), 3) for v in networks.liveness.log_odds(image, golden_faces(kept))]
    return GoldenValues(
        picture=PHOTOGRAPH,
        sha256=hashlib.sha256(picture(PHOTOGRAPH).read_bytes()).hexdigest(),
        landmarks=tuple(tuple(row) for row in points),
        cosines=tuple(round(float(value), 4) for value in cosines),
        log_odds=tuple(odds),
    )
