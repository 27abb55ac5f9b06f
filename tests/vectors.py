"""Rows of length 1, as every embedding is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.base.values import Vector


def unit(rows: NDArray[Any]) -> Vector:
    """The direction of *rows* along the last axis, float32 of the same shape, length 1."""
    found: Vector = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return found
