"""What the journal tells about itself: rows for people, gaps, counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agent.base.events import Event, Moment


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the journal. ``event`` is None when the row is damaged and cannot be opened.

    ``state`` is "pending", "acked" or "quarantined"; ``code`` says why for the last. ``acked_ms``
    is the city's time of its ack, ``corrected_ms`` the Unix time reckoned once the clock was known.
    """

    epoch: str
    seq: int
    state: str
    code: str
    moment: Moment
    corrected_ms: int | None
    acked_ms: int | None
    event: Event | None


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers *first* to *last* are no longer here although the city had not acknowledged them.

    ``reason`` is "quota" (no room), "quota, quarantined" or "damage"; ``at_ms`` is Unix time by
    the device's clock when it was noticed.
    """

    epoch: str
    first: int
    last: int
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts over the whole journal; ``first`` and ``last`` are the current epoch's bounds."""

    epoch: str
    first: int
    last: int
    pending: int
    acked: int
    quarantined: int
    gaps: int
    lost: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class BootReport:
    """What the check at boot found.

    ``damage`` is empty when the file was sound; else ``salvaged`` rows came over into a new
    database and the damaged files are kept under ``set_aside``. ``new_epoch`` is True when numbers
    already handed out could not be ruled out to be missing, so counting began afresh.
    """

    damage: str = ""
    salvaged: int = 0
    gaps: tuple[Gap, ...] = ()
    set_aside: Path | None = None
    new_epoch: bool = False
