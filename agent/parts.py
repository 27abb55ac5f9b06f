"""Makes single parts from settings: the networks, the camera, the recogniser.

``agent.app`` wires them into a running agent; ``kaopass identify``, ``gallery enroll`` and the
benchmarks use a few of them alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import ModelError, SettingsError, UsageError
from agent.hw.file import FileCamera
from agent.hw.folder import FolderCamera
from agent.hw.insightface import ArcFaceEmbedder, ScrfdDetector
from agent.hw.opencv import RtspCamera, V4l2Camera
from agent.identity.calibration import Calibration
from agent.identity.decision import Decider, Rule
from agent.identity.enrolment import Enroller
from agent.identity.matcher import Matcher
from agent.identity.templates import TemplateSet
from agent.packs.store import locate
from agent.ports import Camera, FaceDetector, FaceEmbedder
from agent.recognise import Recogniser
from agent.settings import CameraSettings, DecisionSettings, Settings
from agent.values import Frame
from agent.vision.quality import QualityGate

NEEDS_SOURCE = ("file", "folder", "rtsp")


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The networks of one pack, ready to run, and the pack's measured impostor scores."""

    detector: FaceDetector
    embedder: FaceEmbedder
    calibration: Calibration


def open_networks(settings: Settings) -> Networks:
    """Find, verify and open the model pack of *settings*.

    Raises ModelError when it is missing, altered, not licensed for this use, or when liveness is
    asked for, which this version has no model for.
    """
    if settings.liveness.mode == "on":
        raise ModelError(
            'liveness.mode = "on", but this version has no liveness stage yet, and a door that '
            'was promised one must not open without it. Set it to "off", and know that a '
            "photograph is then taken for a face"
        )
    models = settings.models
    installed = locate(models.pack, settings.models_directory, models.licence)
    return Networks(
        detector=ScrfdDetector(
            installed.paths["detector"],
            input_pixels=models.detector_input_pixels,
            min_score=settings.vision.min_detection_score,
            threads=models.threads,
            provider=models.provider,
        ),
        embedder=ArcFaceEmbedder(
            installed.paths["embedder"],
            pack=models.pack,
            threads=models.threads,
            provider=models.provider,
        ),
        calibration=Calibration(installed.pack.impostor_fmr),
    )


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
        from agent.hw.gstreamer import GstreamerCamera  # noqa: PLC0415 - a Jetson's driver

        return GstreamerCamera(
            camera.source,
            width_pixels=width,
            height_pixels=height,
            frames_per_second=rate,
            rotate_degrees=turn,
        )
    from agent.hw.picamera import PiCamera  # noqa: PLC0415 - a Raspberry Pi's driver

    return PiCamera(
        camera.source,
        width_pixels=width,
        height_pixels=height,
        frames_per_second=rate,
        rotate_degrees=turn,
    )


def _scene(camera: CameraSettings, detector: FaceDetector | None) -> Camera:
    from agent.hw.photographs import passengers  # noqa: PLC0415 - only for demonstrations
    from agent.hw.scene import SceneCamera  # noqa: PLC0415

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
    "gstreamer" and "scene".
    """
    if source in ("picamera2", "gstreamer", "scene"):
        found = {"kind": source, "source": ""}
    elif source.lower().startswith(("rtsp://", "rtsps://")):
        found = {"kind": "rtsp", "source": source}
    elif source.startswith("/dev/"):
        found = {"kind": "v4l2", "source": source}
    else:
        kind = "folder" if Path(source).expanduser().is_dir() else "file"
        found = {"kind": kind, "source": source}
    return found if pace is None else {**found, "pace": pace}


def enrolment_frames(file: str) -> Iterator[Frame]:
    """The frames of a photograph or clip, as fast as they can be read. Raises CameraError."""
    camera = FileCamera(Path(file).expanduser())
    camera.open()
    try:
        while (frame := camera.read()) is not None:
            yield frame
    finally:
        camera.close()


def quality_gate(settings: Settings) -> QualityGate:
    """The limits a view must keep, at the door and for enrolment alike."""
    vision = settings.vision
    return QualityGate(
        min_face_pixels=vision.min_face_pixels,
        min_sharpness=vision.min_sharpness,
        min_brightness=vision.min_brightness,
        max_brightness=vision.max_brightness,
        max_yaw=vision.max_yaw,
    )


def rule_for(decision: DecisionSettings, calibration: Calibration, templates: TemplateSet) -> Rule:
    """The decision rule for a gallery of this size."""
    return Rule(
        threshold=calibration.threshold(len(templates.owners), decision.fpir),
        min_margin=decision.min_margin,
        min_frames=decision.min_frames,
        max_frames=decision.max_frames,
    )


def recogniser(settings: Settings, networks: Networks, templates: TemplateSet) -> Recogniser:
    """The whole path from a frame to decisions, against *templates*."""
    rule = rule_for(settings.decision, networks.calibration, templates)
    return Recogniser(
        networks.detector,
        networks.embedder,
        quality_gate(settings),
        Decider(Matcher(templates), rule),
        lost_ms=round(settings.vision.lost_seconds * 1000),
        max_faces=settings.vision.max_faces,
        max_frames=settings.decision.max_frames,
    )


def enroller(settings: Settings, networks: Networks, *, min_images: int | None = None) -> Enroller:
    """Enrolment through the same networks and gate; *min_images* overrides the setting."""
    return Enroller(
        networks.detector,
        networks.embedder,
        quality_gate(settings).judge,
        min_images=settings.enrolment.min_images if min_images is None else min_images,
        max_templates=settings.enrolment.max_templates,
    )
