"""Networks that are none: a person is a patch painted into a frame, whose blue value says who."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.base.values import Face, Image, Vector

HEIGHT, WIDTH = 240, 320
TOP, BOTTOM = 60, 120
PATCH_PIXELS = 50
BACKGROUND = 120  # blue value where nobody is
LENGTH = 8  # of an embedding: people whose values agree modulo 8 look alike


def picture(*people: tuple[int, int]) -> Image:
    """A frame with one patch a person: (who, left edge). Who is 0 to 255, but not 120."""
    return queue(*((who, x, PATCH_PIXELS) for who, x in people))


def queue(*people: tuple[int, int, int]) -> Image:
    """The same with (who, left edge, width): who stands farther off is narrower."""
    image = np.full((HEIGHT, WIDTH, 3), BACKGROUND, dtype=np.uint8)
    image[:, :, 1] = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH))
    for who, x, wide in people:
        image[TOP:BOTTOM, x : x + wide, 0] = who
    return image


class PatchDetector:
    """A ``ports.FaceDetector`` that finds patches, the least value first."""

    def detect(self, image: Image) -> list[Face]:
        row = image[(TOP + BOTTOM) // 2, :, 0].astype(int)
        faces = []
        for who in sorted({int(v) for v in row} - {BACKGROUND}):
            columns = np.flatnonzero(row == who)
            x = float(columns[0])
            points = np.array(
                [(x + 15, 80), (x + 35, 80), (x + 25, 95), (x + 17, 108), (x + 33, 108)], "f4"
            )
            # A face cut off by the frame is as wide as ever.
            wide = PATCH_PIXELS if columns[-1] == WIDTH - 1 else len(columns)
            faces.append(Face((x, float(TOP), x + wide, float(BOTTOM)), 0.9, points))
        return faces


class PatchEmbedder:
    """A ``ports.FaceEmbedder``: one axis for each value modulo 8."""

    @property
    def pack(self) -> str:
        return "patches"

    def embed(self, image: Image, faces: Sequence[Face]) -> Vector:
        """Unit rows, float32 (len(faces), 8)."""
        rows = np.zeros((len(faces), LENGTH), np.float32)
        for row, face in zip(rows, faces, strict=True):
            row[int(image[(TOP + BOTTOM) // 2, int(face.box[0]) + 5, 0]) % LENGTH] = 1.0
        return rows

    def embed_reference(self, image: Image, faces: Sequence[Face]) -> Vector:
        """The same: every view is a good one."""
        return self.embed(image, faces)


class PatchLiveness:
    """A ``ports.LivenessModel``: patches whose value divides by four are photographs."""

    @property
    def pack(self) -> str:
        return "patches"

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        """2 for the living, -2 for a photograph, float32 (len(faces),)."""
        return np.array([self._odds(image, face) for face in faces], np.float32)

    def _odds(self, image: Image, face: Face) -> float:
        who = int(image[(TOP + BOTTOM) // 2, int(face.box[0]) + 5, 0])
        return 2.0 if who % 4 else -2.0
