"""How well photographs are told from people: the figures of ISO/IEC 30107-3.

APCER is the share of attacks of one kind that pass, BPCER the share of live faces refused; the
worst kind counts, never the mean over kinds. EER is where both meet, a figure for comparing
methods, not a way to set a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.accuracy.rates import Rate


def bpcer(live: Sequence[float], threshold: float) -> Rate:
    """Live faces refused at *threshold*."""
    return Rate(sum(score < threshold for score in live), len(live))


def apcer(attacks: Sequence[float], threshold: float) -> Rate:
    """Attacks that pass at *threshold*."""
    return Rate(sum(score >= threshold for score in attacks), len(attacks))


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
