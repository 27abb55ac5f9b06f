"""Synthetic embeddings of people whose impostor scores are known: for calibration and protocol."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.base.values import Vector


def views(
    people: int, each: int, values: int = 64, noise: float = 0.6, seed: int = 1
) -> tuple[Vector, NDArray[np.intp]]:
    """Unit rows float32 (people * each, values) and whose they are.

    Cosines of different people are those of random directions; of one person about
    1 / (1 + noise**2).
    """
    rng = np.random.default_rng(seed)
    centres = _unit(rng.normal(size=(people, values)))
    owners = np.repeat(np.arange(people), each)
    spread = rng.normal(size=(len(owners), values)) / np.sqrt(values)
    return _unit(centres[owners] + noise * spread).astype(np.float32), owners


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
