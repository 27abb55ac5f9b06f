"""The settings a city gave a device, as a file beside its own: which version, and on trial or not.

Accepted settings are first on trial: what was in force before is kept until the agent has come up
with them, and comes back when it does not. Each change of the file is one replacement.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.base.errors import SettingsError
from agent.base.wholefile import write_file

MOST_STARTS = 2  # that settings on trial may take to come up: a crash, or a cut at a bad moment
MOST_PROBLEMS = 100
MOST_PROBLEM_CHARACTERS = 1_000

# What the city cannot set from afar: who the device is, where its secrets and its state are, and
# by what it reaches the city, since a mistake there could not be mended from afar either.
DEVICES_OWN = frozenset(
    {
        *("device", "keys", "state", "models.licence", "models.directory"),
        *("sync.enabled", "sync.host", "sync.port", "sync.protocol", "sync.tls", "sync.ca_file"),
        *("sync.certificate_file", "sync.private_key_file", "sync.username", "sync.password"),
    }
)

Values = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Overlay:
    """What the city put over the device's own settings; version 0 is nothing.

    On trial, ``before`` is the (version, settings) to go back to, and ``starts`` counts attempts.
    ``refused_version`` and ``problems`` tell of the newest version that is not in force.
    """

    version: int = 0
    settings: Values = field(default_factory=dict)
    before: tuple[int, Values] | None = None
    starts: int = 0
    refused_version: int = 0
    problems: tuple[str, ...] = ()

    @property
    def on_trial(self) -> bool:
        return self.before is not None

    def accepted(self, version: int, settings: Values) -> Overlay:
        """*settings* in force, on trial."""
        # What is itself still on trial is nothing to go back to.
        before = self.before or (self.version, self.settings)
        return Overlay(version, settings, before)

    def refused(self, version: int, problems: Sequence[str]) -> Overlay:
        """*version* is not taken, and why; what is in force stays."""
        told = tuple(problem[:MOST_PROBLEM_CHARACTERS] for problem in problems[:MOST_PROBLEMS])
        return replace(self, refused_version=version, problems=told)

    def started(self) -> Overlay:
        """One more attempt to come up; rolled back when there were enough."""
        if self.before is None:
            return self
        if self.starts >= MOST_STARTS:
            return self.rolled_back(f"the agent ended {self.starts} times without coming up")
        return replace(self, starts=self.starts + 1)

    def interrupted(self) -> Overlay:
        """The last start was ended on purpose, which says nothing of the settings."""
        return replace(self, starts=max(0, self.starts - 1))

    def came_up(self) -> Overlay:
        """The trial is over: they work."""
        return replace(self, before=None, starts=0)

    def rolled_back(self, problem: str) -> Overlay:
        """What was in force before *problem* is again."""
        if self.before is None:
            return self
        version, settings = self.before
        return Overlay(version, settings).refused(self.version, [problem])


class OverlayFile:
    """Owner of the file *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Overlay:
        """What it says; nothing when there is none. Raises SettingsError for a damaged one."""
        try:
            told = json.loads(self._path.read_bytes())
            before = told["before"]
            return Overlay(
                version=int(told["version"]),
                settings=_values(told["settings"]),
                before=None if before is None else (int(before[0]), _values(before[1])),
                starts=int(told["starts"]),
                refused_version=int(told["refused_version"]),
                problems=tuple(str(problem) for problem in told["problems"]),
            )
        except FileNotFoundError:
            return Overlay()
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise SettingsError(
                str(self._path),
                [f"cannot be read ({error}): delete it, and set them again at the city"],
            ) from error

    def write(self, overlay: Overlay) -> None:
        """Replace it; on the disk when this returns. Raises SettingsError."""
        try:
            write_file(self._path, json.dumps(asdict(overlay), ensure_ascii=False).encode())
        except OSError as error:
            raise SettingsError(
                str(self._path), [f"cannot be written: {error.strerror}"]
            ) from error


def devices_own(candidate: Values) -> list[str]:
    """What of *candidate* is not for the city to set, one line each."""
    return [
        f"{section}.{key}: belongs to the device itself; change it there"
        for section, values in candidate.items()
        for key in values
        if section in DEVICES_OWN or f"{section}.{key}" in DEVICES_OWN
    ]


def _values(told: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(told, dict) or not all(isinstance(each, dict) for each in told.values()):
        raise ValueError("settings are objects by section")
    return told
