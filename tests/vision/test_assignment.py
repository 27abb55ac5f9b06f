"""The assignment of least cost is SciPy's, for any shape a frame may bring."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from agent.vision.assignment import least_cost_pairs


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (1, 7), (7, 1), (3, 3), (5, 9), (9, 5), (40, 40)]
)
def test_the_total_cost_is_the_least_there_is(rows: int, columns: int) -> None:
    rng = np.random.default_rng(rows * 100 + columns)
    for _ in range(20):
        costs = rng.random((rows, columns)).astype(np.float32)
        costs[rng.random(costs.shape) < 0.5] = 1e6  # pairs that cannot be
        pairs = least_cost_pairs(costs)
        assert len({r for r, _ in pairs}) == len({c for _, c in pairs}) == min(rows, columns)
        best = costs[linear_sum_assignment(costs)].sum()
        assert sum(costs[r, c] for r, c in pairs) == pytest.approx(best, rel=1e-5)


def test_no_rows_or_no_columns_have_no_pairs() -> None:
    assert least_cost_pairs(np.zeros((0, 3))) == []
    assert least_cost_pairs(np.zeros((3, 0))) == []
