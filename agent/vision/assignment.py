"""Pairs rows with columns at the least total cost: which box continues which track."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def least_cost_pairs(costs: NDArray[np.floating]) -> list[tuple[int, int]]:
    """(row, column) pairs, min(rows, columns) of them, whose costs add up to the least; by row.

    *costs* is (rows, columns) and finite. Shortest augmenting paths with dual potentials (Jonker
    and Volgenant 1987), O(n^3); for the few faces of a frame as quick as SciPy's, whose import
    alone costs a small board half a second and 50 MB.
    """
    if costs.shape[0] > costs.shape[1]:
        return sorted((row, column) for column, row in least_cost_pairs(costs.T))
    rows, columns = costs.shape
    # Column 0 is a place to begin from: it holds the row that is being put in.
    row_price = np.zeros(rows + 1)
    column_price = np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, int)
    for row in range(1, rows + 1):
        row_of[0] = row
        distance = np.full(columns + 1, np.inf)
        came_from = np.zeros(columns + 1, int)
        done = np.zeros(columns + 1, bool)
        column = 0
        while row_of[column]:
            done[column] = True
            here = row_of[column]
            reach = costs[here - 1] - row_price[here] - column_price[1:]
            shorter = ~done[1:] & (reach < distance[1:])
            distance[1:][shorter] = reach[shorter]
            came_from[1:][shorter] = column
            column = int(np.where(done, np.inf, distance).argmin())
            step = distance[column]
            row_price[row_of[done]] += step
            column_price[done] -= step
            distance[~done] -= step
        while column:
            row_of[column] = row_of[came_from[column]]
            column = int(came_from[column])
    return sorted((int(row_of[c]) - 1, c - 1) for c in range(1, columns + 1) if row_of[c])
