"""The far end of impostor scores: how rare a still higher one is, and how sure that is.

False matches are decided by the few highest of a million scores. Above a high enough point u the
excesses of almost any distribution follow a generalised Pareto law (Pickands 1975; Balkema and de
Haan 1974), which is why it is used for biometric thresholds (Scheirer et al. 2011, meta-
recognition; Shi et al. 2008). It is fitted by probability-weighted moments (Hosking and Wallis
1987): better than maximum likelihood below 500 excesses, and moved little by one wild score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.base.errors import UsageError
from agent.base.values import Vector

FIT_RATE = 1e-3  # the tail begins here: the highest thousandth of all pairs
# One stranger in 1,000 taken for one of 25,324 people is a rate of 4e-8.
ERROR_RATES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
# Two people of whom a pair of views reaches this are most likely one person under two names: LFW's
# genuine pairs have their mean at 0.61, and its highest impostor pair (two sisters) has 0.40.
SAME_PERSON = 0.55
LEAST_PEOPLE = 50
LEAST_EXCESSES = 200
BLOCK_ROWS = 1024
RESAMPLES = 200
BIN = 1e-4  # of the histogram that quantiles are read from
LOWEST, HIGHEST = -1.6, 1.6  # of a template's weighted scores

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tail:
    """P(score > c) = rate * (1 + shape * (c - start) / scale) ** (-1 / shape), for c >= start."""

    start: float
    rate: float
    scale: float
    shape: float

    def cosine(self, rate: float) -> float:
        """The cosine that the share *rate* of impostor pairs exceeds; *rate* <= ``self.rate``."""
        ratio = self.rate / rate
        if abs(self.shape) < 1e-9:
            return self.start + self.scale * float(np.log(ratio))
        return self.start + self.scale * float(np.expm1(self.shape * np.log(ratio))) / self.shape

    def scale_at(self, rate: float) -> float:
        """By how much the cosine rises where *rate* falls by a factor of e, around *rate*."""
        return self.scale * float((self.rate / rate) ** self.shape)

    def survival(self, cosine: float) -> float:
        """The share of impostor pairs above *cosine*, which is at least ``start``."""
        excess = max(cosine - self.start, 0.0) / self.scale
        if abs(self.shape) < 1e-9:
            return self.rate * float(np.exp(-excess))
        inner = max(1.0 + self.shape * excess, 0.0)
        return self.rate * float(inner ** (-1.0 / self.shape)) if inner else 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What the impostor scores of a group of people show.

    ``fmr`` holds (rate, cosine) down to the tail's beginning, ``errors`` (rate, standard error of
    the cosine) from resampled people. ``doubles`` counts pairs of people left out because they
    look like one person under two names.
    """

    fmr: tuple[tuple[float, float], ...]
    tail: Tail
    errors: tuple[tuple[float, float], ...]
    people: int
    pairs: int
    doubles: int


def measure(
    references: Vector, reference_owners: NDArray[np.intp], probes: Vector, owners: NDArray[np.intp]
) -> Measured:
    """The distribution of scores of *probes* with *references* of other people.

    float32 (n, d) and (m, d), each with the number of the person it belongs to. Pairs share
    people, so scores are not independent: the errors come from drawing people anew, not pairs
    (Bolle et al. 2004, subset bootstrap). Raises UsageError with too few people to say anything.
    """
    people = len(np.union1d(reference_owners, owners))
    if people < LEAST_PEOPLE:
        raise UsageError(
            f"{people} people: false matches cannot be measured with fewer than {LEAST_PEOPLE}"
        )
    doubles = set()
    for scores, first, second in _blocks(references, reference_owners, probes, owners):
        high = (scores >= SAME_PERSON) & (first != second)
        doubles |= _couples(*(np.broadcast_to(x, scores.shape)[high] for x in (first, second)))
    histogram = np.zeros(round((HIGHEST - LOWEST) / BIN), np.int64)
    for flat, _, _ in _impostors(references, reference_owners, probes, owners, doubles):
        place = ((flat - LOWEST) / BIN).astype(np.int64)
        histogram += np.bincount(place, minlength=len(histogram))[: len(histogram)]
    pairs = int(histogram.sum())
    start = _quantile(histogram, FIT_RATE)
    found = [
        (s[above], a[above], b[above])
        for s, a, b in _impostors(references, reference_owners, probes, owners, doubles)
        if (above := s > start).any()
    ]
    excess = np.concatenate([s for s, _, _ in found]).astype(np.float64) - start
    if len(excess) < LEAST_EXCESSES:
        raise UsageError(
            f"{pairs} pairs of {people} people have {len(excess)} scores in the highest "
            f"thousandth; at least {LEAST_EXCESSES} are needed to tell how rare false matches are"
        )
    first, second = (np.concatenate([item[k] for item in found]) for k in (1, 2))
    tail = fit(excess, np.ones(len(excess)), start, len(excess) / pairs)
    body = tuple((rate, _quantile(histogram, rate)) for rate in (0.1, 0.01))
    return Measured(
        fmr=(*body, (tail.rate, start)),
        tail=tail,
        errors=_errors(tail, excess, first, second, reference_owners, owners),
        people=people,
        pairs=pairs,
        doubles=len(doubles),
    )


def fit(excess: Scores, weights: Scores, start: float, rate: float) -> Tail:
    """The generalised Pareto law of *excess* over *start*, by probability-weighted moments."""
    order = np.argsort(excess)
    x, w = excess[order], weights[order] / weights.sum()
    above = 1.0 - (np.cumsum(w) - w / 2)
    mean = float(w @ x)
    moment = float((w * above) @ x)
    # Hosking and Wallis 1987, with shape = -k.
    spread = mean - 2 * moment
    shape = float(np.clip(2 - mean / spread, -0.5, 0.5))
    return Tail(start=start, rate=rate, scale=2 * mean * moment / spread, shape=shape)


def _errors(
    tail: Tail,
    excess: Scores,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    reference_owners: NDArray[np.intp],
    owners: NDArray[np.intp],
) -> tuple[tuple[float, float], ...]:
    """Standard errors of the cosine at the rates of interest, by drawing people anew."""
    size = int(max(reference_owners.max(), owners.max())) + 1
    given = np.bincount(reference_owners, minlength=size).astype(float)
    shown = np.bincount(owners, minlength=size).astype(float)
    all_pairs = given.sum() * shown.sum() - given @ shown
    present = np.flatnonzero(given + shown)
    rng = np.random.default_rng(1)  # the same answer for the same people
    drawn = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.choice(present, len(present)), minlength=size).astype(float)
        weights = times[first] * times[second]
        pairs = (given * times).sum() * (shown * times).sum() - (given * times**2) @ shown
        rate = tail.rate * (weights.sum() / len(excess)) / (pairs / all_pairs)
        again = fit(excess, weights, tail.start, rate)
        drawn.append([again.cosine(min(at, rate)) for at in ERROR_RATES])
    spread = np.std(drawn, axis=0)
    return tuple((at, round(float(e), 5)) for at, e in zip(ERROR_RATES, spread, strict=True))


def _blocks(
    references: Vector, reference_owners: NDArray[np.intp], probes: Vector, owners: NDArray[np.intp]
) -> Iterator[tuple[Vector, NDArray[np.intp], NDArray[np.intp]]]:
    """Scores of a few probes at a time with all references; owners as a column and a row."""
    for i in range(0, len(probes), BLOCK_ROWS):
        part = slice(i, i + BLOCK_ROWS)
        yield probes[part] @ references.T, owners[part][:, np.newaxis], reference_owners[np.newaxis]


def _impostors(
    references: Vector,
    reference_owners: NDArray[np.intp],
    probes: Vector,
    owners: NDArray[np.intp],
    doubles: set[tuple[int, int]],
) -> Iterator[tuple[Vector, NDArray[np.intp], NDArray[np.intp]]]:
    """Scores between different people, without *doubles*, flat, with both owners."""
    for scores, first, second in _blocks(references, reference_owners, probes, owners):
        keep = first != second
        for a, b in doubles:
            keep &= ~(((first == a) & (second == b)) | ((first == b) & (second == a)))
        who = (np.broadcast_to(first, scores.shape)[keep], np.broadcast_to(second, scores.shape))
        yield scores[keep], who[0], who[1][keep]


def _couples(first: NDArray[np.intp], second: NDArray[np.intp]) -> set[tuple[int, int]]:
    pairs = np.sort(np.stack([first, second], axis=1), axis=1)
    return {(int(a), int(b)) for a, b in np.unique(pairs, axis=0)}


def _quantile(histogram: NDArray[np.int64], rate: float) -> float:
    """The cosine that the share *rate* of the scores exceeds."""
    above = np.cumsum(histogram[::-1])[::-1]
    place = int(np.count_nonzero(above > rate * above[0]))
    return round(LOWEST + place * BIN, 5)
