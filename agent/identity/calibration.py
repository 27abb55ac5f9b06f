"""From the promise "at most this share of strangers is taken for somebody" to a threshold.

The threshold is never a constant: it rises with the gallery, because every further template is
one more chance for a stranger to resemble somebody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# A pilot starts with a dozen residents, but a threshold that is right for a dozen is lower than
# anyone would defend after the first false match; the promise is kept as for this many at least.
LEAST_TEMPLATES = 100


@dataclass(frozen=True, slots=True)
class Calibration:
    """A pack's measured impostor scores: ``impostor_fmr`` pairs (FMR, cosine), FMR falling."""

    impostor_fmr: tuple[tuple[float, float], ...]

    def threshold(self, templates: int, fpir: float) -> float:
        """The cosine from which a stranger is taken for one of *templates* with chance *fpir*.

        FPIR = 1 - (1 - FMR)^N for N independent comparisons (ISO/IEC 19795-1; NIST IR 8271),
        solved for FMR; the score is read from the pack's table, linear in log10(FMR), and
        continued in a straight line beyond its last two points. The real tail falls faster than
        that line, so the extrapolation errs towards refusing.
        """
        count = max(templates, LEAST_TEMPLATES)
        fmr = -float(np.expm1(np.log1p(-fpir) / count))
        logs = [float(np.log10(rate)) for rate, _ in self.impostor_fmr]
        scores = [score for _, score in self.impostor_fmr]
        wanted = float(np.log10(fmr))
        if wanted < logs[-1]:
            slope = (scores[-1] - scores[-2]) / (logs[-1] - logs[-2])
            return min(scores[-1] + slope * (wanted - logs[-1]), 0.99)
        return float(np.interp(-wanted, [-x for x in logs], scores))
