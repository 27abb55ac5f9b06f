"""The sections of the settings: each a frozen model, with units in the names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from agent.settings.drivers import CAMERAS, KEY_SOURCES, LAMPS, SENSORS

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
Pin = Annotated[int, Field(ge=0, le=27)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class DeviceSettings(Section):
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
    """The camera. Every kind is a driver in agent/hw/cameras or agent/sim/cameras."""

    kind: Annotated[str, AfterValidator(CAMERAS.check)] = Field("v4l2", description="which driver")
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


class ModelSettings(Section):
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
    def _packs_differ(self) -> ModelSettings:
        if self.former == self.pack:
            raise ValueError(f'former = "{self.former}" is the pack itself; leave it out')
        return self


class VisionSettings(Section):
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
    min_margin: Fraction = Field(0.08, description="ahead of the runner-up by this, in cosine")
    timeout_seconds: float = Field(3.0, gt=0, le=60, description="then 'board as usual' is offered")

    @model_validator(mode="after")
    def _frames_in_order(self) -> DecisionSettings:
        if self.max_frames < self.min_frames:
            raise ValueError(
                f"max_frames = {self.max_frames} is below min_frames = {self.min_frames}"
            )
        return self


class LivenessSettings(Section):
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
    sensor: Annotated[str, AfterValidator(SENSORS.check)] = Field(
        "none", description="second eye that must agree, where `liveness.mode` is on"
    )


class EnrolmentSettings(Section):
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


class KeySettings(Section):
    """Where the device key comes from."""

    source: Annotated[str, AfterValidator(KEY_SOURCES.check)] = Field(
        "file",
        description="0600 files, a systemd credential, a Raspberry Pi's OTP rows, or (to try things"
        " out) memory",
    )
    directory: Path | None = Field(None, description="key files; default: keys/ in the state")


class JournalSettings(Section):
    """The event journal."""

    on_failure: Literal["refuse", "admit"] = Field(
        "refuse", description="what the door does while events cannot be written"
    )
    keep_days: float = Field(7.0, ge=0, le=3650, description="acknowledged events kept for replay")


class SyncSettings(Section):
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
    lamps: Annotated[str, AfterValidator(LAMPS.check)] = Field(
        "none", description="lamps and buzzer"
    )
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


class StateSettings(Section):
    """Where this device keeps what it must not lose, and its local socket."""

    directory: Path | None = Field(
        None, description="default: $STATE_DIRECTORY, else ~/.local/share/kaopass"
    )
    socket: Path | None = Field(
        None, description="default: status.sock in $RUNTIME_DIRECTORY, else in the state"
    )
