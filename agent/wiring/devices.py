"""The cameras and lamps that the settings name, as the parts above see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.base.errors import SettingsError, UsageError
from agent.base.ports import Camera, FaceDetector
from agent.base.values import Frame
from agent.hw.cameras.file import FileCamera
from agent.hw.cameras.folder import FolderCamera
from agent.hw.cameras.opencv import RtspCamera, V4l2Camera
from agent.hw.gpio.lamps import GpioLamps
from agent.settings.sections import CameraSettings, FeedbackSettings

NEEDS_SOURCE = ("file", "folder", "rtsp")
FILE_KINDS = ("file", "folder", "scene")  # cameras that play what is there already


def open_camera(
    camera: CameraSettings, detector: FaceDetector | None = None, *, still_folder: bool = False
) -> Camera:
    """The adapter the settings name, not yet opened. The scene finds its passengers by *detector*.

    With *still_folder* the pictures of a folder are photographs, each by itself.
    """
    rate, turn = camera.frames_per_second, camera.rotate_degrees
    path = Path(camera.source).expanduser()
    if camera.kind in NEEDS_SOURCE and not camera.source:
        raise SettingsError(
            "camera", [f'camera.kind = "{camera.kind}" needs camera.source: a path or address']
        )
    _check_path(camera.kind, path)
    if camera.kind == "file":
        return FileCamera(path, loop=camera.loop, rotate_degrees=turn)
    if camera.kind == "folder":
        return FolderCamera(
            path,
            still=still_folder,
            frames_per_second=rate,
            loop=camera.loop,
            rotate_degrees=turn,
        )
    if camera.kind == "scene":
        return _scene(camera, detector)
    if camera.kind == "rtsp":
        return RtspCamera(camera.source, rotate_degrees=turn)
    return _live_camera(camera)


def _check_path(kind: str, path: Path) -> None:
    """Raise SettingsError where *path* is no source of *kind*."""
    other = {"file": path.is_dir(), "folder": path.is_file()}
    if other.get(kind):
        is_a = "folder" if kind == "file" else "file"
        raise SettingsError(
            "camera", [f'camera.source {path} is a {is_a}: set camera.kind = "{is_a}"']
        )
    if kind in other and not path.exists():
        raise SettingsError("camera", [f"camera.source {path}: there is no such {kind}"])


def _live_camera(camera: CameraSettings) -> Camera:
    """A camera on this board, by the driver the settings name."""
    rate, turn = camera.frames_per_second, camera.rotate_degrees
    width, height = camera.width_pixels, camera.height_pixels
    if camera.kind == "v4l2":
        return V4l2Camera(
            camera.source,
            width_pixels=width,
            height_pixels=height,
            frames_per_second=rate,
            rotate_degrees=turn,
        )
    if camera.kind == "gstreamer":
        from agent.hw.cameras.gstreamer import GstreamerCamera  # noqa: PLC0415 - a Jetson's driver

        return GstreamerCamera(
            camera.source,
            width_pixels=width,
            height_pixels=height,
            frames_per_second=rate,
            rotate_degrees=turn,
        )
    from agent.hw.cameras.picamera import PiCamera  # noqa: PLC0415 - a Raspberry Pi's driver

    return PiCamera(
        camera.source,
        width_pixels=width,
        height_pixels=height,
        frames_per_second=rate,
        rotate_degrees=turn,
    )


def _scene(camera: CameraSettings, detector: FaceDetector | None) -> Camera:
    from agent.sim.photographs import passengers  # noqa: PLC0415 - only for demonstrations
    from agent.sim.scene import SceneCamera  # noqa: PLC0415

    if detector is None:
        raise UsageError('camera.kind = "scene" is for `kaopass run` and `kaopass demo` only')
    return SceneCamera(
        lambda: passengers(detector),
        width_pixels=camera.width_pixels,
        height_pixels=camera.height_pixels,
        frames_per_second=camera.frames_per_second,
        pace=camera.pace,
        rounds=0 if camera.loop else 1,
    )


def camera_overrides(source: str, *, pace: str | None = None) -> dict[str, str]:
    """Settings of section ``camera`` for one *source* given on a command line.

    A folder, a file, an address with rtsp://, a device under /dev, or the words "picamera2",
    "gstreamer" and "scene". Raises UsageError for a path at which nothing is.
    """
    if source in ("picamera2", "gstreamer", "scene"):
        found = {"kind": source, "source": ""}
    elif source.lower().startswith(("rtsp://", "rtsps://")):
        found = {"kind": "rtsp", "source": source}
    elif source.startswith("/dev/"):
        found = {"kind": "v4l2", "source": source}
    else:
        must_exist([source])
        kind = "folder" if Path(source).expanduser().is_dir() else "file"
        found = {"kind": kind, "source": source}
    return found if pace is None else {**found, "pace": pace}


def must_exist(paths: Iterable[str]) -> None:
    """Raise UsageError for the first of *paths*, given on a command line, at which nothing is."""
    for path in paths:
        if not Path(path).expanduser().exists():
            raise UsageError(f"{path}: there is no such file or folder")


def enrolment_frames(file: str) -> Iterator[Frame]:
    """The frames of a photograph or clip, as fast as they can be read. Raises CameraError."""
    camera = FileCamera(Path(file).expanduser())
    camera.open()
    try:
        while (frame := camera.read()) is not None:
            yield frame
    finally:
        camera.close()


def gpio_lamps(feedback: FeedbackSettings) -> GpioLamps:
    """Lamps and buzzer on the pins of the settings."""
    return GpioLamps(
        feedback.green_pin,
        feedback.amber_pin,
        feedback.red_pin,
        feedback.buzzer_pin,
        feedback.pin_factory,
        feedback.show_seconds,
    )
