"""From the promise "at most this share of strangers is taken for somebody" to a threshold.

The threshold is never a constant: it rises with the gallery, because every further template is
one more chance for a stranger to resemble somebody.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.base.errors import GalleryError
from agent.base.wholefile import write_file
from agent.recognition.tail import Measured, Tail, measure
from agent.recognition.templates import TemplateSet

# A pilot starts with a dozen residents, but a threshold that is right for a dozen is lower than
# anyone would defend after the first false match; the promise is kept as for this many at least.
LEAST_TEMPLATES = 100
MOST_THRESHOLD = 0.99
# A town's own measurement draws on this many people at most: 12 million pairs in some seconds.
MOST_PEOPLE = 5000
# Fewer cannot tell one stranger in a hundred thousand; the pack's own figures are better then.
LEAST_RESIDENTS = 500


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measured scores of different people: the body as (FMR, cosine) pairs, FMR falling, and
    the ``tail`` beyond its last pair.

    ``errors`` holds (FMR, standard error of the cosine). ``averaging`` says how far scores spread
    when a template, or a probe, is the mean of many views instead of one: cosines grow by the
    factor 1 + averaging * (1 - 1/n), because noise cancels and what resembles others stays.
    """

    impostor_fmr: tuple[tuple[float, float], ...]
    tail: Tail | None = None
    errors: tuple[tuple[float, float], ...] = ()
    averaging: float = 0.0

    def threshold(
        self, templates: int, fpir: float, *, images: int = 1, views: int = 1, looks: int = 1
    ) -> float:
        """The score from which a stranger is taken for one of *templates* with chance *fpir*.

        FPIR = 1 - (1 - FMR)^N (ISO/IEC 19795-1; NIST IR 8271), solved for FMR. It holds as if
        comparisons were independent: measured on LFW with people as each other's strangers, FPIR
        is 0.90 to 1.18 of it for N of 100 to 370. Several templates of one person resemble each
        other, so counting each as one more is on the safe side. *images* is the number of views a
        template is the mean of, *views* that of the probe. *looks* is how often, as if anew, one
        stranger is compared.
        """
        count = max(templates, LEAST_TEMPLATES) * looks
        fmr = -float(np.expm1(np.log1p(-fpir) / count))
        spread = (1 + self.averaging * (1 - 1 / images)) * (1 + self.averaging * (1 - 1 / views))
        return min((self.cosine(fmr) + self.allowance(fmr)) * spread, MOST_THRESHOLD)

    def cosine(self, fmr: float) -> float:
        """The score that the share *fmr* of pairs of different people exceeds.

        Linear in log10(FMR) within the measured pairs. Beyond them the fitted tail; without one,
        the straight line of the last two pairs, which errs towards refusing because the real tail
        falls faster.
        """
        logs = np.log10([rate for rate, _ in self.impostor_fmr])
        scores = [score for _, score in self.impostor_fmr]
        wanted = float(np.log10(fmr))
        if wanted >= logs[-1]:
            return float(np.interp(-wanted, -logs, scores))
        if self.tail is not None:
            return self.tail.cosine(fmr)
        slope = (scores[-1] - scores[-2]) / (logs[-1] - logs[-2])
        return float(scores[-1] + slope * (wanted - logs[-1]))

    def allowance(self, fmr: float) -> float:
        """What is added because ``cosine(fmr)`` is itself measured, 0 without a tail.

        Being wrong upwards and downwards does not even out: FMR falls exponentially with the
        score, with the tail's local scale s, so a standard error e makes the expected FMR
        exp(e^2 / 2 s^2) times as high. e^2 / 2 s more of threshold brings it back to the promise.
        """
        if self.tail is None or fmr >= self.tail.rate:
            return 0.0
        return self.error(fmr) ** 2 / (2 * self.tail.scale_at(fmr))

    def error(self, fmr: float) -> float:
        """The standard error of ``cosine(fmr)``, 0 where none was measured.

        Linear in log10(FMR), and on by the last two beyond them: it only grows.
        """
        if not self.errors:
            return 0.0
        logs = -np.log10([rate for rate, _ in self.errors])
        found = [error for _, error in self.errors]
        wanted = -float(np.log10(fmr))
        if wanted > logs[-1] and len(found) > 1:
            slope = (found[-1] - found[-2]) / (logs[-1] - logs[-2])
            return float(found[-1] + max(slope, 0.0) * (wanted - logs[-1]))
        return float(np.interp(wanted, logs, found))


def from_measured(measured: Measured, averaging: float) -> Calibration:
    """The calibration that *measured* scores give."""
    return Calibration(measured.fmr, measured.tail, measured.errors, averaging)


def measure_residents(templates: TemplateSet) -> Measured:
    """What the enrolled residents' own templates show: every pair of people is an impostor pair.

    No image is needed. Both sides are templates, means of several views, which is as far as
    averaging spreads scores: use the result with ``averaging`` 0. Two records that look like one
    person are left out and counted. Raises GalleryError with too few residents.
    """
    if len(templates.ids) < LEAST_RESIDENTS:
        raise GalleryError(
            f"{len(templates.ids)} residents are enrolled; their scores tell how rare false matches"
            f" are from {LEAST_RESIDENTS} on. Until then the model pack's own figures are used"
        )
    people: NDArray[np.intp] = np.arange(len(templates.ids))
    if len(people) > MOST_PEOPLE:
        people = np.random.default_rng(1).choice(people, MOST_PEOPLE, replace=False)
    rows = np.flatnonzero(np.isin(templates.owners, people))
    references = templates.matrix[rows]
    owners = templates.owners[rows].astype(np.intp)
    probes = references / np.linalg.norm(references, axis=1, keepdims=True)
    return measure(references, owners, probes, owners)


def save(path: Path, pack: str, measured: Measured) -> None:
    """Keep what the residents of *pack* showed: a few numbers on all of them together.

    Written whole or not at all. Raises GalleryError.
    """
    values = {"version": 1, "pack": pack, **asdict(measured)}
    try:
        write_file(path, json.dumps(values).encode())
    except OSError as error:
        raise GalleryError(f"calibration {path}: cannot be written: {error.strerror}") from error


def load(path: Path, pack: str) -> Calibration | None:
    """What ``save`` kept for *pack*; None if there is nothing, or it is another pack's.

    Raises GalleryError if the file is damaged: a threshold must not be guessed.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["pack"] != pack:
            return None
        found = Calibration(
            impostor_fmr=tuple((float(rate), float(score)) for rate, score in values["fmr"]),
            tail=Tail(**{name: float(value) for name, value in values["tail"].items()}),
            errors=tuple((float(rate), float(error)) for rate, error in values["errors"]),
        )
        rates = [rate for rate, _ in found.impostor_fmr]
        sane = len(rates) > 1 and rates == sorted(rates, reverse=True) and min(rates) > 0
        if not sane or not 0.05 < found.threshold(LEAST_TEMPLATES, 0.001) < MOST_THRESHOLD:
            raise ValueError("its numbers make no threshold")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GalleryError(
            f"calibration {path}: cannot be used ({error}); run: kaopass gallery calibrate, or"
            " remove it to go by the model pack's figures"
        ) from error
    return found
