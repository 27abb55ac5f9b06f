"""The driver of a live camera that is asked for a size and a speed."""

from __future__ import annotations

from collections.abc import Callable

from agent.base.drivers import CameraDriver, CameraRequest
from agent.base.ports import Camera


def live_camera(camera: Callable[..., Camera]) -> CameraDriver:
    """What opens *camera* as the settings ask: its source, size in pixels, speed and turn."""

    def make(asked: CameraRequest) -> Camera:
        return camera(
            asked.source,
            width_pixels=asked.width_pixels,
            height_pixels=asked.height_pixels,
            frames_per_second=asked.frames_per_second,
            rotate_degrees=asked.rotate_degrees,
        )

    return CameraDriver(make)
