"""``kaopass bench match``: a search of the gallery beside one matrix-vector product of its size."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.bench.board import (
    PEOPLE,
    TEMPLATE_BYTES,
    Machine,
    gallery_room,
    percentile,
    this_board,
)
from agent.bench.vision import strangers
from agent.recognition.matcher import Matcher
from agent.recognition.templates import TemplateSet

MILLION = 1_000_000
BLOCK_ROWS = 4096


@dataclass(frozen=True, slots=True)
class TimedSearch:
    """Medians in milliseconds; ``ratio`` is the median over rounds of search over product."""

    people: int
    megabytes: int
    ms_search: float
    ms_product: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Half:
    """The same search over templates kept as float16: the size halves, and this is the price."""

    people: int
    ms_search: float
    times_slower: float
    same_answers: float
    largest_error: float


@dataclass(frozen=True, slots=True)
class MatchFigures:
    """``ratio`` is that of the first search, over 25,324 people."""

    board: Machine
    ratio: float
    searches: tuple[TimedSearch, ...]
    half: Half
    gallery_up_to: int
    skipped: str


def measure(rounds: int = 41, *, million: bool = True) -> MatchFigures:
    """Time searches in galleries of 25,324 and, where there is room, of 1,000,000 people."""
    board = this_board()
    town = strangers(PEOPLE)
    searches = [time_search(town, rounds)]
    half = time_half(town, max(rounds // 4, 3))
    del town
    skipped = "" if million else "not asked for"
    if million:
        needed = MILLION * TEMPLATE_BYTES / 2**20
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
        if free < needed * 1.5:
            skipped = f"1,000,000 people need {needed:.0f} MB, {free:.0f} MB are free"
        else:
            searches.append(time_search(strangers(MILLION), max(rounds // 4, 5)))
    return MatchFigures(
        board,
        searches[0].ratio,
        tuple(searches),
        half,
        gallery_room(board, searches[0].ms_search),
        skipped,
    )


def time_search(templates: TemplateSet, rounds: int) -> TimedSearch:
    """Search and bare product in turn, each with a new probe."""
    matcher, matrix = Matcher(templates), templates.matrix
    rng = np.random.default_rng(1)
    search: list[float] = []
    product: list[float] = []
    for number in range(rounds + 2):
        probe = matrix[rng.integers(len(matrix))] + rng.normal(0, 0.03, 512).astype(np.float32)
        probe /= np.float32(np.linalg.norm(probe))
        # Whichever comes second finds the caches as the first left them: they take turns.
        first = number % 2
        for turn in (first, 1 - first):
            begun = time.perf_counter()
            if turn:
                matrix @ probe
            else:
                matcher.search(probe[None])
            taken = (time.perf_counter() - begun) * 1000
            if number >= 2:
                (product if turn else search).append(taken)
    return TimedSearch(
        people=len(templates.ids),
        megabytes=matrix.nbytes // 2**20,
        ms_search=round(percentile(search, 50), 3),
        ms_product=round(percentile(product, 50), 3),
        ratio=round(percentile((np.array(search) / np.array(product)).tolist(), 50), 3),
    )


def time_half(templates: TemplateSet, rounds: int) -> Half:
    """What templates kept as float16 would cost: converted block by block for each search."""
    matcher, kept = Matcher(templates), templates.matrix.astype(np.float16)
    rng = np.random.default_rng(2)
    whole, half, same, error = [], [], 0, 0.0
    for _ in range(rounds):
        row = int(rng.integers(len(kept)))
        probe = templates.matrix[row] + rng.normal(0, 0.03, 512).astype(np.float32)
        probe /= np.float32(np.linalg.norm(probe))
        begun = time.perf_counter()
        exact = matcher.search(probe[None])[0]
        between = time.perf_counter()
        scores = half_product(kept, probe)
        best = int(scores.argmax())
        half.append((time.perf_counter() - between) * 1000)
        whole.append((between - begun) * 1000)
        same += templates.ids[int(templates.owners[best])] == exact.person
        error = max(error, abs(float(scores[best]) - exact.similarity))
    return Half(
        people=len(templates.ids),
        ms_search=round(percentile(half, 50), 3),
        times_slower=round(percentile(half, 50) / percentile(whole, 50), 1),
        same_answers=same / rounds,
        largest_error=float(f"{error:.1e}"),
    )


def half_product(matrix: NDArray[np.float16], probe: NDArray[np.float32]) -> NDArray[np.float32]:
    """float16 *matrix* times float32 *probe*, one block of rows after the other."""
    out = np.empty(len(matrix), np.float32)
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = matrix[start : start + BLOCK_ROWS].astype(np.float32)
        np.matmul(block, probe, out=out[start : start + BLOCK_ROWS])
    return out
