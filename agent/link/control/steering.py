"""What the city may change of a running device: the settings in force, and whom it believes.

Owns the file of the city's settings while the agent runs. Accepted ones are on trial until the
agent has come up with them; when it does not, those before are put back and the city is told why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.base.errors import MessageError, ProvisioningError, SettingsError
from agent.link.provisioning.credentials import IdentityFolder
from agent.protocol.control import Config, SettingsReport
from agent.protocol.signed import Trust
from agent.settings.model import Settings, city_problems, load_with_city
from agent.settings.remote import Overlay, OverlayFile, Values

log = logging.getLogger(__name__)

TRIAL_SECONDS = 60.0  # from beginning to open the agent until there is a picture


class TrustAnchor:
    """Whose signatures this device believes: its authorities since it was provisioned. Any thread.

    None for a device that never was. Raises ProvisioningError or MessageError where its identity
    is damaged: then nobody is believed.
    """

    def __init__(self, identity_directory: Path) -> None:
        self._folder = IdentityFolder(identity_directory)
        self._lock = threading.Lock()
        self._known: tuple[bytes, Trust] | None = None

    def __call__(self) -> Trust | None:
        current = self._folder.current()
        if current is None:
            return None
        authorities = current.read(current.authorities.name)
        if authorities is None:
            raise ProvisioningError(
                f"identity {current.folder} is damaged: its authorities are missing; provision "
                "this device again with a new claim"
            )
        with self._lock:
            # The same one as long as they are the same: it remembers certificates it has checked.
            if self._known is None or self._known[0] != authorities:
                self._known = (authorities, Trust(authorities))
            return self._known[1]


class Steering:
    """The settings of a device that the city may change. Any thread.

    *path* and *overrides* are those the agent was started with.
    """

    def __init__(self, path: Path | None, overrides: Values | None = None) -> None:
        """Raises SettingsError for the device's own part."""
        self._path = path
        self._overrides = overrides
        self._lock = threading.Lock()
        self._city = Overlay()
        self._begun = 0  # the version that the agent which runs now was begun with
        self.settings = self._load()

    def begin(self) -> Settings:
        """The settings to start with; one start of those on trial is counted.

        Raises SettingsError for the device's own part.
        """
        with self._lock:
            self.settings = self._load()
            self._change(self._city.started())
            if not self._city.on_trial:
                self.settings = self._load()  # rolled back, perhaps
            self._begun = self._city.version
            return self.settings

    @property
    def on_trial(self) -> bool:
        """Whether the agent that runs now was begun with settings on trial.

        One that has just accepted others says nothing of these: it ends, and the next is tried.
        """
        return self._city.on_trial and self._city.version == self._begun

    def alarms(self) -> tuple[str, ...]:
        """Why the city's newest settings are not in force."""
        return tuple(
            f"the city's settings {self._city.refused_version} are not in force: {problem}"
            for problem in self._city.problems
        )

    def came_up(self) -> None:
        """The agent works with the settings on trial."""
        with self._lock:
            if self.on_trial:
                self._change(self._city.came_up())
                log.info("the city's settings %d are in force", self._city.version)

    def interrupted(self) -> None:
        """The agent was ended in order, perhaps before it came up: that start does not count."""
        with self._lock:
            if self.on_trial:
                self._change(self._city.interrupted())

    def failed(self, reason: str) -> bool:
        """The agent does not come up. True if that was with settings on trial: others are back."""
        with self._lock:
            if not self.on_trial:
                return False
            log.error("the city's settings %d do not come up: %s", self._city.version, reason)
            self._change(self._city.rolled_back(f"the agent does not come up with them: {reason}"))
            return True

    def report(self) -> SettingsReport:
        """As ``CitySettings``; while on trial those before count."""
        city = self._city
        version = city.version if city.before is None else city.before[0]
        return SettingsReport(version, city.refused_version, city.problems)

    def offer(self, config: Config) -> bool:
        """As ``CitySettings``."""
        with self._lock:
            city = self._city
            if config.version in (city.version, city.refused_version):
                return False
            if config.version < max(city.version, city.refused_version):
                raise MessageError(f"settings {config.version} are older than {city.version}")
            if config.base != city.version:
                problems = [
                    f"made to follow version {config.base}, but {city.version} is in force here: "
                    "set them again"
                ]
            else:
                problems = city_problems(config.settings, self._path, self._overrides)
            if not problems:
                try:
                    self._write(city.accepted(config.version, config.settings))
                except SettingsError as error:
                    problems = error.problems
            if problems:
                log.warning("the city's settings %d are refused", config.version)
                self._change(city.refused(config.version, problems))
            return not problems

    def reload_problems(self) -> list[str]:
        """Why the settings as they are on the disk now cannot be read anew; empty if they can."""
        try:
            load_with_city(self._path, self._overrides)
        except SettingsError as error:
            return error.problems
        return []

    def _load(self) -> Settings:
        loaded = load_with_city(self._path, self._overrides)
        self._city = loaded.city
        if loaded.city_problem:
            log.error("the city's settings are not in force: %s", loaded.city_problem)
            version = self._refusable(loaded.settings)
            self._city = Overlay().refused(version, loaded.city_problem.splitlines())
        return loaded.settings

    @staticmethod
    def _refusable(settings: Settings) -> int:
        try:
            return OverlayFile(settings.city_settings_file).read().version
        except SettingsError:
            return 0

    def _change(self, city: Overlay) -> None:
        """Keep *city*. On a full disk it holds until the next start, where it is found out anew."""
        if city == self._city:
            return
        try:
            self._write(city)
        except SettingsError as error:
            log.error("%s", error)
            self._city = city

    def _write(self, city: Overlay) -> None:
        file = OverlayFile(self.settings.city_settings_file)
        self.settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.write(city)
        self._city = city


class Trial:
    """Watches whether the agent comes up with settings on trial; a failure to open shows itself."""

    def __init__(self, steering: Steering, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._steering = steering
        self._monotonic = monotonic
        self._until = monotonic() + TRIAL_SECONDS

    def goes_on(self, *, works: bool, state: str) -> bool:
        """False once it has taken too long: others are in force then, for the next start.

        *works*: it recognises, and sees pictures. *state* says how things are, if it does not.
        """
        if not self._steering.on_trial:
            return True
        if works:
            self._steering.came_up()
            return True
        if self._monotonic() < self._until:
            return True
        return not self._steering.failed(f"no service within {TRIAL_SECONDS:.0f} s: {state}")
