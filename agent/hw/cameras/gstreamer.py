"""A GStreamer pipeline as a camera: CSI cameras of a Jetson, or any pipeline of one's own."""

from __future__ import annotations

from fractions import Fraction

import cv2

from agent.base.errors import CameraError
from agent.hw.cameras.shared.capture import Capture, Connect, LiveCapture, connect
from agent.hw.cameras.shared.live import live_camera

# Only the newest frame is of use, and at once.
SINK = "appsink drop=true max-buffers=1 sync=false"


class GstreamerCamera(LiveCapture):
    """Frames of a GStreamer pipeline through OpenCV.

    *source* is a pipeline, the number of a Jetson's CSI camera, or empty for its camera 0.
    Needs an OpenCV with GStreamer, as JetPack brings it; *has_gstreamer* overrides the check.
    """

    def __init__(
        self,
        source: str = "",
        *,
        width_pixels: int = 640,
        height_pixels: int = 480,
        frames_per_second: float = 15.0,
        timeout_seconds: float = 5.0,
        rotate_degrees: int = 0,
        has_gstreamer: bool | None = None,
        connect: Connect = connect,
    ) -> None:
        super().__init__(rotate_degrees)
        self._pipeline = pipeline(source, width_pixels, height_pixels, frames_per_second)
        self._label = f"CSI {source or 0}" if not source or source.isdecimal() else "pipeline"
        self._timeout_seconds = timeout_seconds
        self._has_gstreamer = has_gstreamer
        self._open_capture = connect

    def _connect(self) -> Capture:
        available = self._has_gstreamer
        if available is None:
            available = cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)
        if not available:
            raise CameraError(
                f"camera {self._label}: this OpenCV ({cv2.__version__}) was built without"
                " GStreamer, as the one from PyPI is; on a Jetson use JetPack's own OpenCV"
                " (see firmware_config/jetson)"
            )
        capture = self._open_capture(self._pipeline, cv2.CAP_GSTREAMER, ())
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"camera {self._label}: the pipeline does not start; try it by itself:"
                f" gst-launch-1.0 {self._pipeline.replace(SINK, 'fakesink')}"
            )
        # Not every version knows it; then its own 30 s hold.
        capture.set(cv2.CAP_PROP_READ_TIMEOUT_MSEC, self._timeout_seconds * 1000)
        return capture


def pipeline(source: str, width_pixels: int, height_pixels: int, frames_per_second: float) -> str:
    """The pipeline to open for *source*; one of the user's own gets a sink if it has none."""
    if source and not source.isdecimal():
        return source if "appsink" in source else f"{source.rstrip(' !')} ! {SINK}"
    rate = Fraction(frames_per_second).limit_denominator(1001)
    size = f"width={width_pixels}, height={height_pixels}"
    return " ! ".join(
        [
            f"nvarguscamerasrc sensor-id={int(source or 0)}",
            f"video/x-raw(memory:NVMM), format=NV12, framerate={rate.numerator}/{rate.denominator}",
            # The sensor has few sizes of its own; the converter scales in hardware.
            "nvvidconv",
            f"video/x-raw, {size}, format=BGRx",
            "videoconvert",
            "video/x-raw, format=BGR",
            SINK,
        ]
    )


DRIVER = live_camera(GstreamerCamera)
