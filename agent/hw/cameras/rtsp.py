"""Network cameras by RTSP."""

from __future__ import annotations

from urllib.parse import urlsplit

import cv2

from agent.base.drivers import CameraDriver, CameraRequest
from agent.base.errors import CameraError
from agent.hw.cameras.shared.capture import Capture, Connect, LiveCapture, connect

RTSP_SCHEMES = ("rtsp", "rtsps")


class RtspCamera(LiveCapture):
    """A network camera. The address may hold ``user:password@``, which is never shown."""

    def __init__(
        self,
        source: str,
        *,
        timeout_seconds: float = 5.0,
        rotate_degrees: int = 0,
        connect: Connect = connect,
    ) -> None:
        super().__init__(rotate_degrees)
        self._source = source
        self._timeout_seconds = timeout_seconds
        self._open_capture = connect

    def _connect(self) -> Capture:
        self._label = masked_address(self._source)
        milliseconds = int(self._timeout_seconds * 1000)
        capture = self._open_capture(
            self._source,
            cv2.CAP_FFMPEG,
            # OpenCV's own limit is 30 s for each.
            (
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                milliseconds,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                milliseconds,
            ),
        )
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"camera {self._label}: no stream within {self._timeout_seconds:g} s; check that"
                " the camera is on and reachable, and its path, user and password"
            )
        return capture


def masked_address(source: str) -> str:
    """Scheme, host and port of an RTSP address; the rest may hold secrets.

    Raises CameraError when *source* is no RTSP address.
    """
    try:
        parts = urlsplit(source)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in RTSP_SCHEMES:
        raise CameraError(
            "camera.source is no RTSP address; it should look like"
            " rtsp://user:password@192.0.2.7:554/stream"
        )
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") + "/..."


def _make(asked: CameraRequest) -> RtspCamera:
    return RtspCamera(asked.source, rotate_degrees=asked.rotate_degrees)


DRIVER = CameraDriver(_make, needs_source=True)
