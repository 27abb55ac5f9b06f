"""Small generated clips without faces: each frame is one flat colour that tells its number."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from agent.base.values import Image

STEP = 20  # grey levels from one frame to the next


def flat(number: int, width: int = 64, height: int = 48) -> Image:
    return np.full((height, width, 3), 10 + number * STEP, np.uint8)


def number_of(image: Image) -> int:
    """Which frame of a clip this is, whatever the codec did to it."""
    return round((float(image.mean()) - 10) / STEP)


def write_avi(path: Path, frames: int = 10, rate: float = 10.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(flat(number))
    writer.release()
    return path


def write_noise_avi(path: Path, frames: int) -> Path:
    """A clip that compresses badly, so that cutting bytes off cuts frames off."""
    rng = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (48, 64, 3), np.uint8))
    writer.release()
    return path


def write_gif(path: Path, durations_ms: list[int]) -> Path:
    # Comes with insightface.
    from PIL import Image as Pillow

    pictures = [Pillow.fromarray(flat(number)) for number in range(len(durations_ms))]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations_ms)
    return path


def write_picture(path: Path, image: Image | None = None) -> Path:
    assert cv2.imwrite(str(path), flat(3) if image is None else image)
    return path
