"""The Raspberry Pi camera through picamera2."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np

from agent.base.errors import CameraError, CameraStuckError
from agent.base.values import Frame
from agent.hw.cameras.shared.live import live_camera
from agent.hw.cameras.shared.pictures import LiveNumbers

log = logging.getLogger(__name__)

# libcamera names formats by the order in a 32-bit word: this one is blue, green, red in memory.
BGR_IN_MEMORY = "RGB888"

# Those left behind. Of the whole process, for with new settings it makes another PiCamera.
_stopping: list[threading.Thread] = []


def library() -> Any:
    """The picamera2 module. Raises CameraError with how to install it."""
    try:
        import picamera2  # noqa: PLC0415 - only on a Pi
    except ImportError as error:
        raise CameraError(
            f"picamera2 cannot be loaded ({error}); install it with: sudo apt install"
            " python3-picamera2, and make the virtual environment with --system-site-packages"
        ) from error
    return picamera2


class PiCamera:
    """A CSI camera of a Raspberry Pi.

    *source* is the camera's libcamera id, its model or its number; empty for the only one.
    *make* returns the picamera2 module.
    """

    def __init__(
        self,
        source: str = "",
        *,
        width_pixels: int = 640,
        height_pixels: int = 480,
        frames_per_second: float = 15.0,
        timeout_seconds: float = 3.0,
        rotate_degrees: int = 0,
        make: Callable[[], Any] = library,
    ) -> None:
        self._source = source
        self._size = (width_pixels, height_pixels)
        self._fps = frames_per_second
        self._timeout_seconds = timeout_seconds
        self._make = make
        self._numbers = LiveNumbers(rotate_degrees)
        self._camera: Any = None
        self._label = source or "Pi camera"

    def open(self) -> None:
        """Configure and start the camera.

        Raises CameraError with what to do about it, CameraStuckError while it hangs in stopping.
        """
        self.close()
        if any(thread.is_alive() for thread in _stopping):
            raise CameraStuckError(
                f"camera {self._label}: hangs in its driver since it was stopped, and only another"
                " process can open it; start the agent again, and check the camera's cable"
            )
        library = self._make()
        number = self._choose(library.Picamera2.global_camera_info())
        try:
            camera = library.Picamera2(number)
        except (RuntimeError, IndexError) as error:
            raise CameraError(
                f"camera {self._label}: cannot be opened ({_root(error)}); another program may"
                " hold it"
            ) from error
        try:
            camera.configure(
                camera.create_video_configuration(
                    main={"size": self._size, "format": BGR_IN_MEMORY},
                    controls={"FrameRate": self._fps},
                )
            )
            camera.start()
        except (RuntimeError, ValueError) as error:
            camera.close()
            raise CameraError(
                f"camera {self._label}: does not start at {self._size[0]}x{self._size[1]},"
                f" {self._fps:g} frames a second ({_root(error)})"
            ) from error
        self._camera = camera

    def read(self) -> Frame | None:
        """The next frame; never None. Raises CameraError when none comes in time."""
        if self._camera is None:
            raise CameraError(f"camera {self._label}: not open")
        try:
            # Waiting without a limit would hang for ever on a loose cable.
            job = self._camera.capture_request(wait=False)
            request = job.get_result(timeout=self._timeout_seconds)
        except FutureTimeoutError as error:
            raise CameraError(
                f"camera {self._label}: no frame for {self._timeout_seconds:g} s; check its cable"
            ) from error
        except RuntimeError as error:
            raise CameraError(f"camera {self._label}: lost ({_root(error)})") from error
        try:
            image = np.array(request.make_array("main"), np.uint8)
            taken_ns = request.get_metadata().get("SensorTimestamp")
        finally:
            # Buffers are few: one kept stops the camera.
            request.release()
        return self._numbers.frame(image, None if taken_ns is None else taken_ns // 1_000_000)

    def close(self) -> None:
        """Stop the camera.

        After a cable came loose picamera2 may never return from stopping; it is then left behind
        in a thread of its own, and only a restart of the process gets the camera back: ``open``
        says so.
        """
        if self._camera is None:
            return
        camera, self._camera = self._camera, None

        def stop() -> None:
            camera.stop()
            camera.close()

        stopping = threading.Thread(target=stop, name="camera-stop", daemon=True)
        stopping.start()
        stopping.join(self._timeout_seconds)
        if stopping.is_alive():
            _stopping.append(stopping)
            log.error("camera %s: does not stop; the agent needs a restart", self._label)

    def _choose(self, cameras: list[dict[str, Any]]) -> int:
        # libcamera lists USB cameras too; those belong to the V4L2 adapter.
        own = [
            (int(camera.get("Num", place)), camera)
            for place, camera in enumerate(cameras)
            if "usb" not in str(camera.get("Id", "")).lower()
        ]
        names = "".join(f"\n  {n}: {c.get('Model', '?')} {c.get('Id', '')}" for n, c in own)
        if not own:
            raise CameraError("no Pi camera found; check its cable, then: rpicam-hello --list")
        if not self._source:
            if len(own) > 1:
                raise CameraError(f"{len(own)} Pi cameras: say which in camera.source{names}")
            number, camera = own[0]
        else:
            matching = [
                (n, c) for n, c in own if self._source in (str(n), c.get("Id"), c.get("Model"))
            ]
            if len(matching) != 1:
                found = "no" if not matching else "more than one"
                raise CameraError(f"camera {self._source!r}: {found} Pi camera is called so{names}")
            number, camera = matching[0]
        self._label = str(camera.get("Model", number))
        return number


def _root(error: BaseException) -> str:
    """The first cause: picamera2 hides libcamera's reason behind "did not complete"."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error) or type(error).__name__


DRIVER = live_camera(PiCamera)
