"""Drivers: a module for each piece of hardware, found by the folder of its kind that it lies in.

A driver is called as the settings call it: ``camera.kind = "v4l2"`` is ``hw/cameras/v4l2.py``. It
says what it is in a constant ``DRIVER``, and is imported only when it is chosen, so a library that
a machine lacks costs it nothing. What stands in for hardware lies in folders of ``agent.sim`` and
is chosen the same way; nothing is taken in another's place. Another distribution adds a driver as
an entry point that names its module, in the group of the kind (``kaopass.cameras``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from agent.base.errors import UsageError

if TYPE_CHECKING:  # the settings read this file, and need no pictures
    from agent.base.ports import (
        Camera,
        ChangeableKeySource,
        FaceDetector,
        FaceEmbedder,
        KeySource,
        Lamps,
        LivenessModel,
        LivenessSensor,
    )

# Opens (path, threads, provider); a benchmark or a test passes one of its own to the adapters.
OpenSession = Callable[[Path, int, str], Any]


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """What is asked of a camera; a driver takes of it what it knows.

    ``source`` is an address, path, name or empty for the only one. ``still``: pictures are
    photographs, each by itself. ``detector`` finds the people of a scene that is drawn.
    """

    source: str = ""
    width_pixels: int = 640
    height_pixels: int = 480
    frames_per_second: float = 15.0
    rotate_degrees: int = 0
    pace: Literal["clock", "fast"] = "clock"
    loop: bool = False
    still: bool = False
    detector: FaceDetector | None = None


def no_problems(source: str) -> list[str]:
    """Any source may be right; opening it will tell."""
    del source
    return []


@dataclass(frozen=True, slots=True)
class CameraDriver:
    """``make`` opens nothing yet. ``live``: it runs by itself; else it plays what is there already,
    at the pace of the settings. ``problems`` says what is wrong with a source, before any device
    is opened.
    """

    make: Callable[[CameraRequest], Camera]
    live: bool = True
    needs_source: bool = False
    problems: Callable[[str], list[str]] = no_problems


@dataclass(frozen=True, slots=True)
class LampRequest:
    """Where lamps and buzzer are connected (BCM numbers), and how long a result stays lit."""

    green_pin: int
    amber_pin: int
    red_pin: int
    buzzer_pin: int
    pin_factory: str
    show_seconds: float


@dataclass(frozen=True, slots=True)
class LampDriver:
    """``make`` raises FeedbackError when a pin cannot be opened."""

    make: Callable[[LampRequest], Lamps]


@dataclass(frozen=True, slots=True)
class KeySourceDriver:
    """Both take the directory of key files. ``changeable`` is who may exchange keys, for
    ``kaopass keys rotate``. ``protects`` says from whom a key is safe there, ``file`` what lies in
    the directory, if anything does."""

    make: Callable[[Path], KeySource]
    changeable: Callable[[Path], ChangeableKeySource]
    protects: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class SensorDriver:
    """A second eye that tells a face from a picture of one; it opens when it is made."""

    make: Callable[[], LivenessSensor]


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """The verified files of one pack by role, and how they are to run.

    ``mean``, ``scale`` and ``typical_norm`` are the embedder's: see ``packs.manifest``.
    """

    pack: str
    paths: Mapping[str, Path]
    threads: int
    provider: str
    opener: OpenSession
    input_pixels: int = 640
    min_score: float = 0.5
    mean: float = 127.5
    scale: float = 127.5
    typical_norm: float | None = None


@dataclass(frozen=True, slots=True)
class ModelDriver:
    """What runs the networks of a pack, whose ``runtime`` names it. All raise ModelError."""

    detector: Callable[[NetworkRequest], FaceDetector]
    embedder: Callable[[NetworkRequest], FaceEmbedder]
    liveness: Callable[[NetworkRequest], LivenessModel] | None = None


Driver = TypeVar("Driver")


class Drivers(Generic[Driver]):
    """All drivers of one *kind*, in *folders* of this package and in entry points of *group*.

    *without* are names that stand for no driver, such as "none".
    """

    def __init__(
        self, kind: type[Driver], what: str, group: str, *folders: str, without: str = ""
    ) -> None:
        self._kind = kind
        self._what = what
        self._group = group
        self._folders = folders
        self._without = without

    def names(self) -> list[str]:
        """All there are, none of them imported; "none" last."""
        found = {*self._modules(), *(point.name for point in entry_points(group=self._group))}
        return [*sorted(found), *([self._without] if self._without else [])]

    def check(self, name: str) -> str:
        """*name* itself. Raises ValueError, with what was probably meant, if there is none."""
        # Entry points are read last: that takes a while where many distributions are installed.
        if name in (self._without or None, *self._modules()) or name in self.names():
            return name
        names = self.names()
        close = get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"is none of {', '.join(names)}{hint}")

    def driver(self, name: str) -> Driver:
        """The driver called *name*, imported now. Raises UsageError if there is none."""
        module = self._modules().get(name)
        for point in () if module else entry_points(group=self._group):
            module = point.value if point.name == name else module
        if module is None:
            raise UsageError(f"{self._what} {name!r}: there is no such driver")
        found = getattr(import_module(module), "DRIVER", None)
        if not isinstance(found, self._kind):
            raise UsageError(
                f"{self._what} {name!r}: {module} has no DRIVER ({self._kind.__name__})"
            )
        return found

    def _modules(self) -> dict[str, str]:
        return {
            module.name: f"{folder}.{module.name}"
            for folder in self._folders
            for module in iter_modules(import_module(folder).__path__)
            if not module.ispkg  # what drivers share
        }
