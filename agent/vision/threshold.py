"""The liveness threshold of this device's camera: chosen from live faces, kept in a small file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.base.errors import ModelError, UsageError
from agent.base.wholefile import write_file

LEAST_LIVE = 5  # fewer live faces say nothing about a camera
# Of the 80 photographs held up in NUAA 23% pass as sequences from here on, 34% from 0.2, 75% from
# 0.1 and 99% from 0.05; the lowest of its 17 live sequences has 0.40, the default is 0.5. A camera
# that needs less cannot tell: better that it says so than that the door is open without a word.
LEAST_THRESHOLD = 0.25


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

    Raises UsageError for fewer than five scores, and for a threshold below ``LEAST_THRESHOLD``.
    From n scores no rate below 1/n can be promised: then none of them is refused.
    """
    if len(live) < LEAST_LIVE:
        raise UsageError(
            f"{len(live)} live faces are too few to calibrate a camera: show at least {LEAST_LIVE} "
            "people or sequences, in the light the door has"
        )
    lowest = sorted(live)[math.floor(len(live) * bpcer)]
    # Rounded down, so that the score it was taken from still passes.
    threshold = math.floor(lowest * 1e4) / 1e4
    if threshold < LEAST_THRESHOLD:
        spared = "with --bpcer above 0 the worst of many need not pass"
        if bpcer:
            spared = f"from {math.ceil(1 / bpcer)} on the worst need not pass"
        raise UsageError(
            f"{len(live)} live faces, of which at most {bpcer:.0%} may be refused, would need the "
            f"threshold {threshold:.4f}; below {LEAST_THRESHOLD} more than one in four photographs "
            "passes. Was a photograph or a poor picture among them? Give people more light from "
            f"the front and show more of them: {spared}"
        )
    return CameraThreshold(pack, threshold, bpcer, len(live))


def save(path: Path, found: CameraThreshold) -> None:
    """Write *found* whole or not at all. Raises UsageError if *path* cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_file(path, (json.dumps(asdict(found), indent=2) + "\n").encode())
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error


def load(path: Path, pack: str) -> CameraThreshold | None:
    """What is kept at *path*, None if there is nothing.

    Raises ModelError when it is damaged, below ``LEAST_THRESHOLD`` or was found for another pack
    than *pack*: such a threshold would open the door to photographs or shut it to people.
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
    if not LEAST_THRESHOLD <= found.threshold <= 1.0:
        raise ModelError(
            f"{path}: threshold {found.threshold} is not within {LEAST_THRESHOLD} to 1, and below"
            f" that photographs pass; {remedy}"
        )
    if found.pack != pack:
        raise ModelError(
            f"{path}: was found for liveness pack {found.pack!r}, not for {pack!r}; {remedy}"
        )
    return found
