"""Makes single parts from settings: the networks, the camera, the recogniser.

``agent.wiring.agent`` wires them into a running agent; ``kaopass identify``, ``gallery enroll`` and
the benchmarks use a few of them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.base.drivers import NetworkRequest, OpenSession
from agent.base.errors import ModelError
from agent.base.ports import FaceDetector, FaceEmbedder, LivenessModel
from agent.door.recogniser import Recogniser
from agent.hw.models.networks.onnx import open_session
from agent.packs.manifest import GoldenValues
from agent.packs.store import InstalledPack, known_packs, locate, locate_role
from agent.recognition.calibration import Calibration
from agent.recognition.decision import Decider
from agent.recognition.enrolment import Enroller
from agent.recognition.protection import ProtectedEmbedder, Protection
from agent.recognition.rules import both_sides, calibration_for
from agent.recognition.templates import TemplateSet
from agent.settings.drivers import MODELS
from agent.settings.model import Settings
from agent.vision.examine import Examiner
from agent.vision.liveness import DEFAULT_THRESHOLD, Liveness
from agent.vision.quality import QualityGate
from agent.vision.threshold import load as load_threshold
from agent.wiring.devices import open_sensor


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """The networks of one pack, ready to run, and the pack's measured impostor scores.

    ``liveness`` is there at a door whose settings ask for it, with the golden values of its own
    pack: see ``door_networks``. ``former`` is the pack that residents were enrolled with before; it
    is shown the faces this one's detector finds.
    """

    detector: FaceDetector
    embedder: FaceEmbedder
    calibration: Calibration
    liveness: LivenessModel | None = None
    golden: GoldenValues | None = None
    liveness_golden: GoldenValues | None = None
    former: Networks | None = None

    @property
    def calibrations(self) -> tuple[Calibration, Calibration | None]:
        """This pack's, and the former one's."""
        return self.calibration, None if self.former is None else self.former.calibration

    def protected(self, protection: Protection) -> Networks:
        """The same networks, but that no plain embedding leaves them (requirement B6)."""
        return replace(
            self,
            embedder=ProtectedEmbedder(self.embedder, protection),
            former=self.former and self.former.protected(protection),
        )

    def use(self, protection: Protection) -> None:
        """Rotate by *protection* from now on; only for what ``protected`` gave."""
        if isinstance(self.embedder, ProtectedEmbedder):
            self.embedder.use(protection)
        if self.former is not None:
            self.former.use(protection)


def open_networks(settings: Settings, opener: OpenSession = open_session) -> Networks:
    """Find, verify and open what recognises faces; *opener* opens each network's session.

    For enrolment and measuring. Raises ModelError when the pack is missing, altered, or not
    licensed for this use.
    """
    models = settings.models
    installed = locate(models.pack, settings.models_directory, models.licence)
    networks = pack_networks(settings, installed, opener)
    return replace(networks, former=_former(settings, networks, opener))


def pack_networks(settings: Settings, installed: InstalledPack, opener: OpenSession) -> Networks:
    """Detector and embedder of one verified pack. Raises ModelError."""
    driver, request = MODELS.driver(installed.pack.runtime), _request(settings, installed, opener)
    return Networks(
        detector=driver.detector(request),
        embedder=driver.embedder(request),
        calibration=calibration_for(settings, installed.pack),
        golden=installed.pack.golden,
    )


def _former(settings: Settings, networks: Networks, opener: OpenSession) -> Networks | None:
    models = settings.models
    if not models.former:
        return None
    try:
        installed = locate(models.former, settings.models_directory, models.licence)
    except ModelError as error:
        raise ModelError(f"models.former: {error}") from error
    return Networks(
        detector=networks.detector,
        embedder=MODELS.driver(installed.pack.runtime).embedder(
            _request(settings, installed, opener)
        ),
        calibration=calibration_for(settings, installed.pack),
        golden=installed.pack.golden,
    )


def door_networks(settings: Settings, opener: OpenSession = open_session) -> Networks:
    """What a door needs: ``open_networks``, and the liveness network where the mode is on.

    Raises ModelError when anything of it is missing or altered: a door that was promised liveness
    does not open without it.
    """
    networks = open_networks(settings, opener)
    if settings.liveness.mode == "off":
        return networks
    return replace(
        networks,
        liveness=open_liveness(settings, opener),
        liveness_golden=known_packs(settings.models_directory).pack(settings.liveness.pack).golden,
    )


def _request(settings: Settings, installed: InstalledPack, opener: OpenSession) -> NetworkRequest:
    models, pack = settings.models, installed.pack
    given = pack.file("embedder").input
    return NetworkRequest(
        pack=pack.name,
        paths=installed.paths,
        threads=models.threads,
        provider=models.provider,
        opener=opener,
        input_pixels=models.detector_input_pixels,
        min_score=settings.vision.min_detection_score,
        mean=given.mean,
        scale=given.scale,
        typical_norm=pack.typical_norm,
    )


def open_liveness(settings: Settings, opener: OpenSession = open_session) -> LivenessModel:
    """Find, verify and open the liveness network, whatever ``liveness.mode`` says.

    Raises ModelError saying how to install it.
    """
    models, name = settings.models, settings.liveness.pack
    try:
        path = locate_role(name, "liveness", settings.models_directory, models.licence)
        pack = known_packs(settings.models_directory).pack(name)
        make = MODELS.driver(pack.runtime).liveness
        if make is None:
            raise ModelError(
                f"{pack.runtime!r}, which runs model pack {name!r}, judges no liveness"
            )
    except ModelError as error:
        raise ModelError(
            f"liveness cannot be judged, and without it nobody passes: {error}. To let photographs "
            'pass, set liveness.mode = "off"'
        ) from error
    return make(
        NetworkRequest(
            pack=name,
            paths={"liveness": path},
            threads=models.threads,
            provider=models.provider,
            opener=opener,
        )
    )


def liveness_threshold(settings: Settings) -> float:
    """The least score of a live face: the setting, else this camera's own, else the pack's.

    Raises ModelError when the camera's own is damaged or of another pack.
    """
    if settings.liveness.threshold is not None:
        return settings.liveness.threshold
    kept = load_threshold(settings.liveness_file, settings.liveness.pack)
    return DEFAULT_THRESHOLD if kept is None else kept.threshold


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


def recogniser(
    settings: Settings,
    networks: Networks,
    templates: TemplateSet,
    former: TemplateSet | None = None,
) -> Recogniser:
    """The whole path from a frame to decisions, against *templates*.

    During a change of packs, *former* are the templates that ``networks.former`` still decides by.
    Raises ValueError when the settings ask for liveness and *networks* cannot tell.
    """
    liveness = None
    if settings.liveness.mode == "on":
        if networks.liveness is None:
            raise ValueError("liveness.mode is on, but these networks were opened without it")
        liveness = Liveness(
            networks.liveness,
            threshold=liveness_threshold(settings),
            min_frames=settings.decision.min_frames,
            sensor=open_sensor(settings),
        )
    sides = both_sides(settings.decision, networks.calibrations, templates, former)
    watcher = Recogniser(
        networks.detector,
        networks.embedder,
        quality_gate(settings),
        Decider(*sides[:2]),
        lost_ms=round(settings.vision.lost_seconds * 1000),
        max_faces=settings.vision.max_faces,
        max_frames=settings.decision.max_frames,
        liveness=liveness,
        former_embedder=None if networks.former is None else networks.former.embedder,
    )
    watcher.use(*sides)
    return watcher


def enroller(settings: Settings, networks: Networks, *, min_images: int | None = None) -> Enroller:
    """Enrolment through the same networks and gate; *min_images* overrides the setting."""
    return Enroller(
        networks.detector,
        networks.embedder,
        quality_gate(settings).judge,
        min_images=settings.enrolment.min_images if min_images is None else min_images,
        max_views=settings.enrolment.max_views,
    )


def open_examiner(settings: Settings, model: LivenessModel | None = None) -> Examiner:
    """Detector and liveness network of *settings*, whatever its mode; or *model* as the latter."""
    networks = open_networks(settings)
    return Examiner(networks.detector, quality_gate(settings), model or open_liveness(settings))
