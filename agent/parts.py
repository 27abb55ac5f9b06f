"""Makes single parts from settings: the networks, the camera, the recogniser.

``agent.app`` wires them into a running agent; ``kaopass identify``, ``gallery enroll`` and the
benchmarks use a few of them alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agent.device.selftest import Golden, SelfTest, self_test
from agent.errors import ImageError, ModelError, SettingsError, UsageError
from agent.hw.file import FileCamera
from agent.hw.folder import FolderCamera
from agent.hw.gpio import GpioLamps
from agent.hw.insightface import ArcFaceEmbedder, ScrfdDetector
from agent.hw.liveness import FacepluginLiveness
from agent.hw.onnx import OpenSession, open_session
from agent.hw.opencv import RtspCamera, V4l2Camera
from agent.hw.photographs import pinned_picture
from agent.identity.calibration import Calibration
from agent.identity.calibration import load as load_calibration
from agent.identity.decision import Decider, Rule
from agent.identity.enrolment import Enroller
from agent.identity.matcher import Matcher
from agent.identity.protection import ProtectedEmbedder, Protection
from agent.identity.tail import Tail
from agent.identity.templates import TemplateSet
from agent.packs.manifest import GoldenValues, Pack
from agent.packs.store import locate, locate_role
from agent.ports import Camera, FaceDetector, FaceEmbedder, LivenessModel
from agent.recognise import Recogniser
from agent.settings import CameraSettings, DecisionSettings, FeedbackSettings, Settings
from agent.values import Frame
from agent.vision.liveness import DEFAULT_THRESHOLD, Liveness
from agent.vision.quality import QualityGate
from agent.vision.threshold import load as load_threshold

ENROLLED_VIEWS = 3  # of a resident, at least: requirement B3 and enrolment.min_images
NEEDS_SOURCE = ("file", "folder", "rtsp")


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The networks of one pack, ready to run, and the pack's measured impostor scores.

    ``liveness`` is there when the settings ask for it, and only then.
    """

    detector: FaceDetector
    embedder: FaceEmbedder
    calibration: Calibration
    liveness: LivenessModel | None = None
    golden: GoldenValues | None = None

    def protected(self, protection: Protection) -> Networks:
        """The same networks, but that no plain embedding leaves them (requirement B6)."""
        return replace(self, embedder=ProtectedEmbedder(self.embedder, protection))


def open_networks(settings: Settings, opener: OpenSession = open_session) -> Networks:
    """Find, verify and open the model packs of *settings*; *opener* opens each network's session.

    Raises ModelError when one is missing, altered, or not licensed for this use: a door that was
    promised liveness does not open without it.
    """
    models = settings.models
    installed = locate(models.pack, settings.models_directory, models.licence)
    return Networks(
        detector=ScrfdDetector(
            installed.paths["detector"],
            input_pixels=models.detector_input_pixels,
            min_score=settings.vision.min_detection_score,
            threads=models.threads,
            provider=models.provider,
            opener=opener,
        ),
        embedder=ArcFaceEmbedder(
            installed.paths["embedder"],
            pack=models.pack,
            threads=models.threads,
            provider=models.provider,
            typical_norm=installed.pack.typical_norm,
            opener=opener,
        ),
        calibration=calibration_for(settings, installed.pack),
        liveness=open_liveness(settings, opener) if settings.liveness.mode == "on" else None,
        golden=installed.pack.golden,
    )


def calibration_for(settings: Settings, pack: Pack) -> Calibration:
    """What ``kaopass gallery calibrate`` found on this device's residents, else the pack's figures.

    Raises GalleryError when the device's own is damaged.
    """
    return load_calibration(settings.calibration_file, pack.name) or pack_calibration(pack)


def pack_calibration(pack: Pack) -> Calibration:
    """The scores of different people that come with *pack*."""
    given = pack.impostor_tail
    if given is None:
        return Calibration(pack.impostor_fmr)
    tail = Tail(given.start, given.rate, given.scale, given.shape)
    return Calibration(pack.impostor_fmr, tail, given.errors, given.averaging)


def open_liveness(settings: Settings, opener: OpenSession = open_session) -> LivenessModel:
    """Find, verify and open the liveness network, whatever ``liveness.mode`` says.

    Raises ModelError saying how to install it.
    """
    models, pack = settings.models, settings.liveness.pack
    try:
        path = locate_role(pack, "liveness", settings.models_directory, models.licence)
    except ModelError as error:
        raise ModelError(
            f"liveness cannot be judged, and without it nobody passes: {error}"
        ) from error
    return FacepluginLiveness(
        path, pack=pack, threads=models.threads, provider=models.provider, opener=opener
    )


def liveness_threshold(settings: Settings) -> float:
    """The least score of a live face: the setting, else this camera's own, else the pack's.

    Raises ModelError when the camera's own is damaged or of another pack.
    """
    if settings.liveness.threshold is not None:
        return settings.liveness.threshold
    kept = load_threshold(settings.liveness_file, settings.liveness.pack)
    return DEFAULT_THRESHOLD if kept is None else kept.threshold


def self_tested(networks: Networks) -> SelfTest:
    """The boot self-test of *networks*; a warning where there is nothing to test them with."""
    values = networks.golden
    if values is None:
        return SelfTest(warning=f"model pack {networks.embedder.pack!r} has no golden values")
    try:
        picture = pinned_picture(values.picture, values.sha256)
    except (ImageError, OSError) as error:
        return SelfTest(warning=str(error))
    landmarks = np.asarray(values.landmarks, np.float32).reshape(-1, 5, 2)
    golden = Golden(picture, landmarks, values.cosines)
    return self_test(networks.detector, networks.embedder, golden)


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


def rule_for(
    decision: DecisionSettings,
    calibration: Calibration,
    templates: TemplateSet,
    *,
    images: int = ENROLLED_VIEWS,
    views: int = 1,
) -> Rule:
    """The decision rule for a gallery of this size.

    *images* is how many views of different moments a template is the mean of, *views* how many a
    decision is made of. The frames of one track are near copies of each other and spread scores
    like one.
    """
    return Rule(
        threshold=calibration.threshold(
            len(templates.owners), decision.fpir, images=images, views=views
        ),
        min_margin=decision.min_margin,
        min_frames=decision.min_frames,
        max_frames=decision.max_frames,
    )


def recogniser(settings: Settings, networks: Networks, templates: TemplateSet) -> Recogniser:
    """The whole path from a frame to decisions, against *templates*."""
    rule = rule_for(settings.decision, networks.calibration, templates)
    liveness = None
    if networks.liveness is not None:
        liveness = Liveness(
            networks.liveness,
            threshold=liveness_threshold(settings),
            min_frames=settings.decision.min_frames,
        )
    return Recogniser(
        networks.detector,
        networks.embedder,
        quality_gate(settings),
        Decider(Matcher(templates), rule),
        lost_ms=round(settings.vision.lost_seconds * 1000),
        max_faces=settings.vision.max_faces,
        max_frames=settings.decision.max_frames,
        liveness=liveness,
    )


def enroller(settings: Settings, networks: Networks, *, min_images: int | None = None) -> Enroller:
    """Enrolment through the same networks and gate; *min_images* overrides the setting."""
    return Enroller(
        networks.detector,
        networks.embedder,
        quality_gate(settings).judge,
        min_images=settings.enrolment.min_images if min_images is None else min_images,
        max_views=settings.enrolment.max_views,
    )


def gpio_lamps(feedback: FeedbackSettings) -> GpioLamps:
    """The lamps and the buzzer on the pins the settings name."""
    return GpioLamps(
        feedback.green_pin,
        feedback.amber_pin,
        feedback.red_pin,
        feedback.buzzer_pin,
        feedback.pin_factory,
        feedback.show_seconds,
    )
