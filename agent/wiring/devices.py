"""The cameras, lamps, sensors and key sources that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.base.drivers import CameraRequest, LampRequest
from agent.base.errors import SettingsError, UsageError
from agent.base.ports import Camera, FaceDetector, KeySource, Lamps, LivenessSensor
from agent.base.values import Frame
from agent.settings.drivers import CAMERAS, KEY_SOURCES, LAMPS, SENSORS
from agent.settings.model import Settings
from agent.settings.sections import CameraSettings, FeedbackSettings
from agent.vision.source import NewestFrame


def check_camera(camera: CameraSettings) -> None:
    """Raise SettingsError with all that is wrong with its source; opens nothing."""
    driver = CAMERAS.driver(camera.kind)
    problems = driver.problems(camera.source)
    if driver.needs_source and not camera.source:
        problems = [f'camera.kind = "{camera.kind}" needs camera.source: a path or address']
    if problems:
        raise SettingsError("camera", problems)


def open_camera(
    camera: CameraSettings, detector: FaceDetector | None = None, *, still_folder: bool = False
) -> Camera:
    """The camera the settings name, not yet opened. A scene finds its passengers by *detector*.

    With *still_folder* the pictures of a folder are photographs, each by itself.
    """
    check_camera(camera)
    return CAMERAS.driver(camera.kind).make(
        CameraRequest(
            source=camera.source,
            width_pixels=camera.width_pixels,
            height_pixels=camera.height_pixels,
            frames_per_second=camera.frames_per_second,
            rotate_degrees=camera.rotate_degrees,
            pace=camera.pace,
            loop=camera.loop,
            still=still_folder,
            detector=detector,
        )
    )


def is_live(kind: str) -> bool:
    """Whether a camera of *kind* runs by itself; else it plays what is there already."""
    return CAMERAS.driver(kind).live


def newest_frames(settings: CameraSettings, camera: Camera) -> NewestFrame:
    """The thread that reads *camera* as *settings* say, not started."""
    return NewestFrame(
        camera,
        pace="live" if is_live(settings.kind) else settings.pace,
        reopen_min_seconds=settings.reopen_min_seconds,
        reopen_max_seconds=settings.reopen_max_seconds,
    )


def camera_status(kind: str, source: NewestFrame) -> dict[str, object]:
    """For the status of a running agent."""
    counters = source.counters
    return {
        "kind": kind,
        "state": source.state,
        "frames": counters.frames,
        "dropped": counters.dropped,
        "reopens": counters.reopens,
    }


def camera_alarms(source: NewestFrame) -> list[str]:
    """Why the camera is lost, for as long as it is."""
    trouble = source.trouble
    # The drivers' messages begin with "camera" themselves.
    return [f"{trouble} (it is tried again until it is back)"] if trouble else []


def camera_overrides(source: str, *, pace: str | None = None) -> dict[str, str]:
    """Settings of section ``camera`` for one *source* given on a command line.

    A folder, a file, an address with rtsp://, a device under /dev, or the name of a driver that
    needs no source, such as "picamera2" or "scene". Raises UsageError for a path at which nothing
    is.
    """
    if source in CAMERAS.names() and not CAMERAS.driver(source).needs_source:
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
    camera = CAMERAS.driver("file").make(CameraRequest(source=file))
    camera.open()
    try:
        while (frame := camera.read()) is not None:
            yield frame
    finally:
        camera.close()


def lamp_opener(feedback: FeedbackSettings) -> Callable[[], Lamps] | None:
    """What opens the lamps and buzzer of the settings, and raises FeedbackError; None for none."""
    if feedback.lamps == "none":
        return None
    driver = LAMPS.driver(feedback.lamps)
    asked = LampRequest(
        green_pin=feedback.green_pin,
        amber_pin=feedback.amber_pin,
        red_pin=feedback.red_pin,
        buzzer_pin=feedback.buzzer_pin,
        pin_factory=feedback.pin_factory,
        show_seconds=feedback.show_seconds,
    )
    return lambda: driver.make(asked)


def open_sensor(settings: Settings) -> LivenessSensor | None:
    """The second eye of the settings; None where there is none."""
    sensor = settings.liveness.sensor
    return None if sensor == "none" else SENSORS.driver(sensor).make()


def open_key_source(settings: Settings) -> KeySource:
    """Where the settings say that this device's keys are."""
    return KEY_SOURCES.driver(settings.keys.source).make(settings.keys_directory)
