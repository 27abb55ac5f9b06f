"""All settings of a device: one TOML file, read once, every mistake listed before anything opens.

Over the file lies what the city set from afar (``agent.settings.remote``), except for what is the
device's own (``overlay.DEVICES_OWN``).

A section is a frozen model; units are in the names. ``load()`` is the only way in. Environment
variables such as ``KAOPASS_CAMERA__SOURCE`` override single values, for containers and tests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from agent.base.errors import SettingsError
from agent.settings.problems import in_words
from agent.settings.remote import Overlay, OverlayFile, Values, devices_own
from agent.settings.sources import environment, own_file

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Pin = Annotated[int, Field(ge=0, le=27)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Device(Section):
    """Who this device is."""

    name: str = Field(
        "kaopass-1", pattern=NAME, description="device name: certificate CN, client id"
    )
    serial: str = Field(
        "", pattern=r"^[!-~]{0,64}$", description="its claim is bound to this; empty = the board's"
    )


class PlaceSettings(Section):
    """Where the device is and what passing it means."""

    kind: Literal["bus", "hall"] = Field("bus", description="bus door or community hall")
    name: str = Field("unnamed", min_length=1, max_length=64, description="vehicle or hall")
    door: str = Field("front", min_length=1, max_length=32, description="which door")
    direction: Literal["in", "out"] = Field("in", description="boarding/check-in or the way out")
    repeat_seconds: float = Field(
        120.0,
        ge=0,
        le=3600,
        description="the same person at the same stop within this is one event",
    )


class CameraSettings(Section):
    """The camera. Every kind is an adapter in agent/hw."""

    kind: Literal["picamera2", "v4l2", "rtsp", "gstreamer", "file", "folder", "scene"] = Field(
        "v4l2", description="which adapter"
    )
    source: str = Field(
        "", description="by-path name, address, pipeline, file or folder; empty = the only one"
    )
    width_pixels: int = Field(640, ge=160, le=4096, description="asked of a live camera")
    height_pixels: int = Field(480, ge=120, le=4096, description="asked of a live camera")
    frames_per_second: float = Field(15.0, gt=0, le=120, description="asked of a live camera")
    pace: Literal["clock", "fast"] = Field(
        "clock", description="file sources: by their own clock, or as fast as possible"
    )
    loop: bool = Field(False, description="file sources: start again at the end")
    rotate_degrees: Literal[0, 90, 180, 270] = Field(0, description="turn the picture clockwise")
    reopen_min_seconds: float = Field(0.5, gt=0, le=60, description="first wait after a loss")
    reopen_max_seconds: float = Field(30.0, gt=0, le=600, description="longest wait after losses")


class Models(Section):
    """Which networks run, and on what."""

    pack: str = Field("buffalo_s", pattern=NAME, description="pack in models/manifest.toml")
    former: str = Field(
        "",
        pattern=rf"^$|{NAME}",
        description="pack residents are enrolled with from before; it still recognises who has no"
        " templates of `models.pack` yet",
    )
    licence: Literal["none", "research"] = Field(
        "none", description='"research" accepts non-commercial research weights'
    )
    directory: Path | None = Field(None, description="installed packs; default: under the state")
    threads: int = Field(2, ge=1, le=64, description="threads ONNX Runtime may use")
    provider: Literal["cpu", "cuda", "tensorrt"] = Field("cpu", description="execution provider")
    detector_input_pixels: int = Field(
        640, ge=128, le=2048, multiple_of=32, description="square detector input; smaller is faster"
    )

    @model_validator(mode="after")
    def _packs_differ(self) -> Models:
        if self.former == self.pack:
            raise ValueError(f'former = "{self.former}" is the pack itself; leave it out')
        return self


class Vision(Section):
    """Which faces are looked at."""

    min_detection_score: Fraction = Field(0.5, description="detector score below this is no face")
    min_face_pixels: float = Field(28.0, ge=12, le=2000, description="narrowest face box embedded")
    min_sharpness: float = Field(
        12.0, ge=0, description="blurred below this; see agent.vision.quality"
    )
    min_brightness: float = Field(25.0, ge=0, le=255, description="mean grey of a face, at least")
    max_brightness: float = Field(235.0, ge=0, le=255, description="mean grey of a face, at most")
    max_yaw: Fraction = Field(0.60, description="turned further sideways than this is not embedded")
    max_faces: int = Field(12, ge=1, le=100, description="most faces embedded in one frame")
    lost_seconds: float = Field(0.7, gt=0, le=10, description="a track unseen this long has ended")


class DecisionSettings(Section):
    """When a track is somebody."""

    fpir: float = Field(
        0.001, gt=0, le=0.1, description="promised share of strangers who are taken for somebody"
    )
    min_frames: int = Field(3, ge=1, le=30, description="good views needed before a match")
    max_frames: int = Field(12, ge=1, le=100, description="views a track's evidence is made of")
    min_margin: Fraction = Field(0.08, description="lead over the runner-up, in cosine")
    timeout_seconds: float = Field(3.0, gt=0, le=60, description="then 'board as usual' is offered")

    @model_validator(mode="after")
    def _frames_in_order(self) -> DecisionSettings:
        if self.max_frames < self.min_frames:
            raise ValueError(
                f"max_frames = {self.max_frames} is below min_frames = {self.min_frames}"
            )
        return self


class Liveness(Section):
    """Whether a face must be shown to be alive."""

    mode: Literal["off", "on"] = Field(
        "on", description="'on' refuses photographs and screens, 'off' takes them for people"
    )
    pack: str = Field("faceplugin", pattern=NAME, description="pack with a liveness network")
    threshold: Fraction | None = Field(
        None,
        description="least score of a live face; default: what `kaopass liveness calibrate` found"
        " for this camera, else 0.5",
    )


class Enrolment(Section):
    """What it takes to be put into the gallery on this device."""

    min_images: int = Field(3, ge=1, le=50, description="good views needed")
    max_views: int = Field(
        5, ge=1, le=50, description="most varied views that a person's template is made of"
    )


class GallerySettings(Section):
    """Whose gallery this device uses, and for how long without hearing from the city."""

    source: Literal["local", "city"] = Field(
        "local", description="enrolled on this device alone, or the city's, signed by it"
    )
    lease_hours: float = Field(
        72.0, gt=0, le=8760, description="of powered-on time without word from the city, then off"
    )
    confirm_seconds: float = Field(
        60.0, ge=0, le=3600, description="after a start: longest wait for the city's word"
    )
    check_seconds: float = Field(
        600.0, ge=5, le=86_400, description="how often the city is asked for its newest version"
    )


class Keys(Section):
    """Where the device key comes from."""

    source: Literal["file", "credential", "otp"] = Field(
        "file", description="a 0600 file, a systemd credential, or a Raspberry Pi's OTP rows"
    )
    directory: Path | None = Field(None, description="key files; default: keys/ in the state")


class JournalSettings(Section):
    """The event journal."""

    on_failure: Literal["refuse", "admit"] = Field(
        "refuse", description="what the door does while events cannot be written"
    )
    keep_days: float = Field(7.0, ge=0, le=3650, description="acknowledged events kept for replay")


class Sync(Section):
    """The way to the city's broker."""

    enabled: bool = Field(True, description="off: the journal only fills")
    host: str = Field("localhost", min_length=1, description="broker")
    port: int = Field(8883, ge=1, le=65535, description="broker port")
    protocol: Literal["5", "3.1.1"] = Field("5", description="MQTT version")
    tls: bool = Field(True, description="TLS 1.2 or later")
    ca_file: Path | None = Field(None, description="authority of the broker; default: the system's")
    certificate_file: Path | None = Field(None, description="this device's certificate")
    private_key_file: Path | None = Field(None, description="its key")
    username: str = Field("", description="for brokers without certificates")
    password: SecretStr = Field(SecretStr(""), description="for brokers without certificates")
    keepalive_seconds: int = Field(30, ge=5, le=3600, description="MQTT keep-alive")
    batch_events: int = Field(100, ge=1, le=100, description="most events in a batch")
    batch_bytes: int = Field(65_536, ge=1024, le=65_536, description="most bytes in a batch")
    batch_seconds: float = Field(2.0, ge=0, le=60, description="longest wait for a batch to fill")
    inflight_batches: int = Field(
        4, ge=1, le=16, description="batches sent and not yet acknowledged"
    )
    ack_timeout_seconds: float = Field(30.0, gt=0, le=600, description="then a batch is sent again")
    retry_min_seconds: float = Field(1.0, gt=0, le=60, description="least reconnect back-off")
    retry_max_seconds: float = Field(300.0, gt=0, le=3600, description="most reconnect back-off")


class FeedbackSettings(Section):
    """What a person at the door sees and hears."""

    display: Literal["console", "none"] = Field("console", description="screen")
    language: Literal["ja", "en", "both"] = Field("both", description="language of the words")
    lamps: Literal["gpio", "none"] = Field("none", description="lamps and buzzer")
    pin_factory: Literal["lgpio", "rpigpio", "mock"] = Field(
        "lgpio", description="gpiozero pin factory; mock has no hardware"
    )
    green_pin: Pin = Field(17, description="BCM number")
    amber_pin: Pin = Field(27, description="BCM number")
    red_pin: Pin = Field(22, description="BCM number")
    buzzer_pin: Pin = Field(18, description="BCM number, PWM")
    show_seconds: float = Field(2.0, gt=0, le=30, description="how long a result stays lit")

    @model_validator(mode="after")
    def _pins_differ(self) -> FeedbackSettings:
        pins = [self.green_pin, self.amber_pin, self.red_pin, self.buzzer_pin]
        if len(set(pins)) < len(pins):
            raise ValueError(f"green, amber, red and buzzer pins must differ, got {pins}")
        return self


class State(Section):
    """Where this device keeps what it must not lose, and its local socket."""

    directory: Path | None = Field(
        None, description="default: $STATE_DIRECTORY, else ~/.local/share/kaopass"
    )
    socket: Path | None = Field(
        None, description="default: status.sock in $RUNTIME_DIRECTORY, else in the state"
    )


class Settings(Section):
    """Everything ``kaopass`` can be told, by section."""

    device: Device = Device()
    place: PlaceSettings = PlaceSettings()
    camera: CameraSettings = CameraSettings()
    models: Models = Models()
    vision: Vision = Vision()
    decision: DecisionSettings = DecisionSettings()
    liveness: Liveness = Liveness()
    enrolment: Enrolment = Enrolment()
    gallery: GallerySettings = GallerySettings()
    keys: Keys = Keys()
    journal: JournalSettings = JournalSettings()
    sync: Sync = Sync()
    feedback: FeedbackSettings = FeedbackSettings()
    state: State = State()

    @model_validator(mode="after")
    def _city_is_reachable(self) -> Settings:
        if self.gallery.source == "city" and not self.sync.enabled:
            raise ValueError('gallery.source = "city" needs sync.enabled = true')
        return self

    @property
    def state_directory(self) -> Path:
        """Where journal, gallery, models and keys are."""
        if self.state.directory is not None:
            return self.state.directory.expanduser()
        # systemd gives a colon-separated list; the first is the unit's own.
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(given) if given else Path.home() / ".local/share/kaopass"

    @property
    def socket_path(self) -> Path:
        """Where a running agent answers ``kaopass status``."""
        if self.state.socket is not None:
            return self.state.socket.expanduser()
        given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        return (Path(given) if given else self.state_directory) / "status.sock"

    @property
    def models_directory(self) -> Path:
        return (self.models.directory or self.state_directory / "models").expanduser()

    @property
    def liveness_file(self) -> Path:
        """What ``kaopass liveness calibrate`` found for this device's camera."""
        return self.state_directory / "liveness.json"

    @property
    def identity_directory(self) -> Path:
        """What ``kaopass provision`` got: this device's key and certificates."""
        return self.state_directory / "identity"

    @property
    def city_settings_file(self) -> Path:
        """What the city set from afar."""
        return self.state_directory / "city-settings.json"

    @property
    def audit_file(self) -> Path:
        """Who did what on this device."""
        return self.state_directory / "audit.jsonl"

    @property
    def calibration_file(self) -> Path:
        """What ``kaopass gallery calibrate`` found on this device's residents."""
        return self.state_directory / "calibration.json"

    @property
    def keys_directory(self) -> Path:
        return (self.keys.directory or self.state_directory / "keys").expanduser()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and what the city has to do with them.

    ``city_problem`` says why the city's settings are not in force although there are some.
    """

    settings: Settings
    city: Overlay = field(default_factory=Overlay)
    city_problem: str = ""


def load(path: Path | None = None, overrides: Values | None = None) -> Settings:
    """Read *path* (defaults alone if None); over it the city's settings, then the environment's,
    then *overrides*.

    Raises SettingsError listing every mistake: unknown names with a suggestion, values out of
    range, and a file that is missing or no TOML.
    """
    return load_with_city(path, overrides).settings


def load_with_city(path: Path | None = None, overrides: Values | None = None) -> Loaded:
    """The same, telling what came from the city. Raises SettingsError for the device's own part.

    The city's part never keeps a device from starting: where the whole is not valid with it (an
    update or the device's own file has changed since), the device's own settings hold.
    """
    own = own_file(path)
    settings = _valid(path, own, {}, overrides or {})
    file = OverlayFile(settings.city_settings_file)
    try:
        city = file.read()
        return Loaded(_valid(path, own, city.settings, overrides or {}), city)
    except SettingsError as error:
        return Loaded(settings, Overlay(), str(error))


def city_problems(
    candidate: Values, path: Path | None = None, overrides: Values | None = None
) -> list[str]:
    """Why *candidate* from the city cannot be put in force; empty when it can."""
    problems = devices_own(candidate)
    try:
        settings = _valid(path, own_file(path), candidate, overrides or {})
    except SettingsError as error:
        return [*problems, *error.problems]
    if settings.camera.kind == "gstreamer" and "camera" in candidate:
        problems.append("camera: a pipeline can run anything; change it on the device itself")
    return problems


def _valid(path: Path | None, own: Mapping[str, Any], city: Values, overrides: Values) -> Settings:
    values: dict[str, Any] = {
        section: dict(given) if isinstance(given, dict) else given for section, given in own.items()
    }
    for source in (city, environment(), overrides):
        for section, given in source.items():
            known = values.setdefault(section, {})
            if isinstance(known, dict):
                known.update(given)
    try:
        return Settings(**values)
    except ValidationError as error:
        name = str(path) if path else "settings"
        raise SettingsError(name, in_words(error, Settings)) from error
