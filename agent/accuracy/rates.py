"""Error rates of open-set identification, with what a finite number of trials can prove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from agent.values import Candidate

NEVER = -2.0  # the score of a probe that was never compared: below every cosine
CONFIDENCE = 0.95

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """*errors* in *trials* independent ones."""

    errors: int
    trials: int

    @property
    def value(self) -> float:
        """The share of errors, 0 to 1; 0 without trials."""
        return self.errors / self.trials if self.trials else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true rate lies with 95% confidence (Clopper and Pearson 1934, exact).

        Without errors the whole 5% goes to the upper side, 1 - 0.05^(1/n): the rule of three, 3/n
        (ISO/IEC 19795-1, B.1.2). (0, 1) without trials.
        """
        k, n = self.errors, self.trials
        if n == 0:
            return 0.0, 1.0
        if k == 0:
            return 0.0, 1.0 - (1.0 - CONFIDENCE) ** (1.0 / n)
        side = (1.0 - CONFIDENCE) / 2
        low = float(betaincinv(k, n - k + 1, side))
        high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - side))
        return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What the gallery answered to every probe; ``NEVER`` is the score of one never compared.

    ``mated`` is the similarity of the best person where that is the right one, else ``NEVER``;
    ``mated_lead`` its lead over the runner-up. ``strange`` and ``strange_lead`` are the same of
    the best person for each stranger, whoever that is.
    """

    mated: Scores
    mated_lead: Scores
    strange: Scores
    strange_lead: Scores

    @classmethod
    def of(cls, mated: Sequence[tuple[str, Candidate]], strange: Sequence[Candidate]) -> Outcomes:
        """From (person who stood there, answer) of residents, and the answers to strangers."""
        return cls(
            mated=_array(c.similarity if c.person == who else NEVER for who, c in mated),
            mated_lead=_array(c.similarity - c.runner_up for _, c in mated),
            strange=_array(c.similarity for c in strange),
            strange_lead=_array(c.similarity - c.runner_up for c in strange),
        )

    def fnir(self, threshold: float, min_lead: float = -1.0) -> Rate:
        """Residents not named rightly: another is nearer, or their own score or lead too low."""
        named = (self.mated >= threshold) & (self.mated_lead >= min_lead)
        return Rate(int(np.count_nonzero(~named)), len(self.mated))

    def fpir(self, threshold: float, min_lead: float = -1.0) -> Rate:
        """Strangers who are taken for anybody."""
        named = (self.strange >= threshold) & (self.strange_lead >= min_lead)
        return Rate(int(np.count_nonzero(named)), len(self.strange))

    def threshold_for(self, fpir: float) -> float:
        """The lowest threshold that at most the share *fpir* of these strangers reach.

        With fewer than 1 / *fpir* strangers it is just above the highest of their scores.
        """
        falling = np.sort(self.strange)[::-1]
        allowed = int(fpir * len(falling) + 1e-9)  # 0.001 * 1000 must not fall below 1
        if allowed >= len(falling):
            return -1.0
        return float(np.nextafter(falling[allowed], 2.0))

    def curve(self) -> tuple[Scores, Scores, Scores]:
        """(threshold, FPIR, FNIR), rising thresholds, one for each score that occurs."""
        scores = np.concatenate([self.mated, self.strange])
        at = np.unique(scores[scores > NEVER])
        strange, mated = np.sort(self.strange), np.sort(self.mated)
        passed = len(strange) - np.searchsorted(strange, at, side="left")
        missed = np.searchsorted(mated, at, side="left")
        return at, passed / max(len(strange), 1), missed / max(len(mated), 1)


def _array(values: object) -> Scores:
    return np.fromiter(values, dtype=np.float64)  # type: ignore[call-overload,no-any-return]
