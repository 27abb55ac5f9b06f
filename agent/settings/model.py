"""All settings of a device: one TOML file, read once, every mistake listed before anything opens.

Over the file lies what the city set from afar (``agent.settings.remote``), except for what is the
device's own (``remote.DEVICES_OWN``). ``load()`` is the only way in. Environment variables such as
``KAOPASS_CAMERA__SOURCE`` override single values, for containers and tests.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from agent.base.errors import SettingsError
from agent.settings.problems import in_words
from agent.settings.remote import Overlay, OverlayFile, Values, devices_own
from agent.settings.sections import (
    CameraSettings,
    DecisionSettings,
    DeviceSettings,
    EnrolmentSettings,
    FeedbackSettings,
    GallerySettings,
    JournalSettings,
    KeySettings,
    LivenessSettings,
    ModelSettings,
    PlaceSettings,
    Section,
    StateSettings,
    SyncSettings,
    VisionSettings,
)
from agent.settings.sources import environment, own_file


class Settings(Section):
    """Everything ``kaopass`` can be told, by section."""

    device: DeviceSettings = DeviceSettings()
    place: PlaceSettings = PlaceSettings()
    camera: CameraSettings = CameraSettings()
    models: ModelSettings = ModelSettings()
    vision: VisionSettings = VisionSettings()
    decision: DecisionSettings = DecisionSettings()
    liveness: LivenessSettings = LivenessSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    gallery: GallerySettings = GallerySettings()
    keys: KeySettings = KeySettings()
    journal: JournalSettings = JournalSettings()
    sync: SyncSettings = SyncSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    state: StateSettings = StateSettings()

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
