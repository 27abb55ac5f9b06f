"""How well photographs are told from people: the figures of ISO/IEC 30107-3.

APCER is the share of attacks of one kind that pass, BPCER the share of live faces refused; the
worst kind counts, never the mean over kinds. EER is where both meet, a figure for comparing
methods, not a way to set a threshold: a threshold chosen on the same faces flatters itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.accuracy.rates import Rate

RESAMPLES = 400


def bpcer(live: Sequence[Sequence[float]], threshold: float) -> Rate:
    """Live faces refused at *threshold*.

    Each inner sequence is one presentation's scores, 0 to 1: one for the whole, or one for each of
    its images. These are near copies of each other, so the interval goes by presentations.
    """
    return _rate([[score < threshold for score in one] for one in live])


def apcer(attacks: Sequence[Sequence[float]], threshold: float) -> Rate:
    """Attacks that pass at *threshold*, given as in ``bpcer``."""
    return _rate([[score >= threshold for score in one] for one in attacks])


def _rate(wrong: Sequence[Sequence[bool]]) -> Rate:
    return Rate.clustered(
        [error for one in wrong for error in one],
        [number for number, one in enumerate(wrong) for _ in one],
    )


def eer(live: Sequence[float], attacks: Sequence[float]) -> float | None:
    """The mean of both rates at the threshold where they are nearest; None without both kinds."""
    if not live or not attacks:
        return None
    good, bad = np.sort(np.asarray(live)), np.sort(np.asarray(attacks))
    thresholds = np.unique(np.concatenate([good, bad]))
    refused = np.searchsorted(good, thresholds, side="left") / len(good)
    passed = 1.0 - np.searchsorted(bad, thresholds, side="left") / len(bad)
    nearest = int(np.argmin(np.abs(refused - passed)))
    return float((refused[nearest] + passed[nearest]) / 2)


def eer_interval(
    live: Sequence[Sequence[float]], attacks: Sequence[Sequence[float]]
) -> tuple[float, float] | None:
    """Where the EER lies with 95% confidence; None without both kinds.

    Each inner sequence is one presentation's scores. Presentations are drawn anew, whole (subset
    bootstrap, Bolle et al. 2004): the pictures of one are near copies of each other.
    """
    good, bad = ([list(one) for one in kind if len(one)] for kind in (live, attacks))
    if not good or not bad:
        return None
    rng = np.random.default_rng(1)  # the same answer for the same scores

    def drawn(kind: list[list[float]]) -> list[float]:
        return [score for i in rng.integers(0, len(kind), len(kind)) for score in kind[i]]

    found = [eer(drawn(good), drawn(bad)) or 0.0 for _ in range(RESAMPLES)]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
