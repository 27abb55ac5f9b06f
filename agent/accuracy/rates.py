"""Error rates of open-set identification, with what a finite number of trials can prove.

Several visits of one person, or several pictures of one presentation, are near copies of each other
and prove less than as many of different people (ISO/IEC 19795-1, annex B). Such trials come with
whose they are, and the interval counts accordingly.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, stdtrit

from agent.base.values import Candidate

NEVER = -2.0  # the score of a probe that was never compared: below every cosine
CONFIDENCE = 0.95

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """*errors* in *trials*, which prove as much as *worth* independent ones.

    ``clusters`` is the number of people, or of presentations, that the trials are of. Both are
    None where every trial is of another one: then the trials are independent.
    """

    errors: int
    trials: int
    clusters: int | None = None
    worth: float | None = None

    @classmethod
    def clustered(cls, wrong: Sequence[bool], of: Sequence[Hashable]) -> Rate:
        """From whether each trial is an error, and the person or presentation that it is of.

        Raises ValueError unless there is one of *of* for each trial.
        """
        numbers: dict[Hashable, int] = {}
        owners = [numbers.setdefault(each, len(numbers)) for each in of]
        if len(owners) != len(wrong):
            raise ValueError(f"{len(wrong)} trials, but {len(owners)} say whose they are")
        rows = np.asarray(owners, np.intp)
        trials = np.bincount(rows).astype(np.float64)
        errors = np.bincount(rows, np.asarray(wrong, np.float64)).astype(np.float64)
        if len(numbers) == len(owners):
            return cls(int(errors.sum()), len(owners))
        return cls(int(errors.sum()), len(owners), len(numbers), _worth(errors, trials))

    @property
    def value(self) -> float:
        """The share of errors, 0 to 1; 0 without trials."""
        return self.errors / self.trials if self.trials else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true rate lies with 95% confidence (Clopper and Pearson 1934, exact).

        Without errors the whole 5% goes to the upper side, 1 - 0.05^(1/n): the rule of three, 3/n
        (ISO/IEC 19795-1, B.1.2). (0, 1) without trials.

        Of trials that are not independent n is what they are worth, and the errors are their share
        of it (Korn and Graubard 1998). Drawing people anew and taking percentiles (Efron and
        Tibshirani 1993) was tried: with so few errors it holds the true rate in 85% to 94% of
        simulated runs, this in 95% or more.
        """
        n = float(self.trials if self.worth is None else self.worth)
        if self.trials == 0:
            return 0.0, 1.0
        if self.errors == 0:
            return 0.0, 1.0 - (1.0 - CONFIDENCE) ** (1.0 / n)
        k = float(self.errors) if self.worth is None else self.value * n
        side = (1.0 - CONFIDENCE) / 2
        low = float(betaincinv(k, n - k + 1, side))
        high = 1.0 if self.errors == self.trials else float(betaincinv(k + 1, n - k, 1.0 - side))
        return low, high


def _worth(errors: NDArray[np.float64], trials: NDArray[np.float64]) -> float:
    """How many independent trials prove as much as these of several clusters.

    p(1 - p) / V(p), with the variance V between clusters of ISO/IEC 19795-1, annex B, times the
    squared ratio of Student's quantiles, because V itself is known from so many clusters only (Korn
    and Graubard 1998). Where clusters show no variance, as without any error, each counts once.
    """
    count, total = len(trials), int(trials.sum())
    rate = float(errors.sum()) / total
    spread = float(((errors - rate * trials) ** 2).sum())
    if count < 2 or spread < 1e-9:
        return float(count)
    independent = rate * (1 - rate) * total**2 / (spread * count / (count - 1))
    upper = (1.0 + CONFIDENCE) / 2
    known = (stdtrit(total - 1, upper) / stdtrit(count - 1, upper)) ** 2
    return float(min(max(independent * known, 1.0), total))


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What the gallery answered to every probe; ``NEVER`` is the score of one never compared.

    ``mated`` is the similarity of the best person where that is the right one, else ``NEVER``;
    ``mated_margin`` its margin over the runner-up, ``mated_people`` who came. ``strange`` and
    ``strange_margin`` are the same of the best person for each stranger, whoever that is.
    """

    mated: Scores
    mated_margin: Scores
    mated_people: tuple[str, ...]
    strange: Scores
    strange_margin: Scores

    @classmethod
    def of(cls, mated: Sequence[tuple[str, Candidate]], strange: Sequence[Candidate]) -> Outcomes:
        """From (person who stood there, answer) of residents, and the answers to strangers."""
        return cls(
            mated=_array(c.similarity if c.person == who else NEVER for who, c in mated),
            mated_margin=_array(c.similarity - c.runner_up for _, c in mated),
            mated_people=tuple(who for who, _ in mated),
            strange=_array(c.similarity for c in strange),
            strange_margin=_array(c.similarity - c.runner_up for c in strange),
        )

    def fnir(self, threshold: float, min_margin: float = -1.0) -> Rate:
        """Residents not named rightly: another is nearer, or their own score or margin too low.

        The interval goes by people, as most come more than once.
        """
        named = (self.mated >= threshold) & (self.mated_margin >= min_margin)
        return Rate.clustered((~named).tolist(), self.mated_people)

    def fpir(self, threshold: float, min_margin: float = -1.0) -> Rate:
        """Strangers who are taken for anybody; each comes once, so the interval is exact."""
        named = (self.strange >= threshold) & (self.strange_margin >= min_margin)
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
