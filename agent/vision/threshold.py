"""The liveness threshold of this device's camera: chosen from live faces, kept in a small file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.durable import write_file
from agent.errors import ModelError, UsageError

LEAST_LIVE = 5  # fewer live faces say nothing about a camera


@dataclass(frozen=True, slots=True)
class CameraThreshold:
    """What ``kaopass liveness calibrate`` found. Scores and rates are 0 to 1.

    ``live`` sequences were shown; at ``threshold`` at most the share ``bpcer`` of them is refused.
    """

    pack: str
    threshold: float
    bpcer: float
    live: int


def choose(pack: str, live: Sequence[float], bpcer: float) -> CameraThreshold:
    """The highest threshold that refuses at most the share *bpcer* of the *live* scores.

    Raises UsageError for fewer than five scores. From n scores no rate below 1/n can be promised:
    then none of them is refused.
    """
    if len(live) < LEAST_LIVE:
        raise UsageError(
            f"{len(live)} live faces are too few to calibrate a camera: show at least {LEAST_LIVE} "
            "people or sequences, in the light the door has"
        )
    lowest = sorted(live)[math.floor(len(live) * bpcer)]
    # Rounded down, so that the score it was taken from still passes.
    return CameraThreshold(pack, math.floor(lowest * 1e4) / 1e4, bpcer, len(live))


def save(path: Path, found: CameraThreshold) -> None:
    """Write *found* whole or not at all. Raises UsageError if *path* cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, (json.dumps(asdict(found), indent=2) + "\n").encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def load(path: Path, pack: str) -> CameraThreshold | None:
    """What is kept at *path*, None if there is nothing.

    Raises ModelError when it is damaged or was found for another pack than *pack*: a threshold
    from elsewhere would open the door to photographs or shut it to people.
    """
    remedy = "run `kaopass liveness calibrate` again, or remove the file for the pack's own value"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = CameraThreshold(
            pack=str(values["pack"]),
            threshold=float(values["threshold"]),
            bpcer=float(values["bpcer"]),
            live=int(values["live"]),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: is damaged; {remedy}") from error
    if not 0.0 <= found.threshold <= 1.0:
        raise ModelError(f"{path}: threshold {found.threshold} is not within 0 to 1; {remedy}")
    if found.pack != pack:
        raise ModelError(
            f"{path}: was found for liveness pack {found.pack!r}, not for {pack!r}; {remedy}"
        )
    return found
