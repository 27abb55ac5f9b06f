"""The threshold follows from the size of the gallery and the promise, never from a constant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.identity.calibration import LEAST_TEMPLATES, Calibration

TABLE = Calibration(((0.1, 0.09), (0.01, 0.17), (0.001, 0.23), (0.0001, 0.28), (0.00001, 0.335)))


def test_the_table_is_read_where_it_was_measured() -> None:
    # 1000 templates and 1% of strangers: each comparison may err with 1e-5.
    assert TABLE.threshold(1000, 0.01) == pytest.approx(0.335, abs=0.001)


@given(
    st.integers(1, 2_000_000), st.integers(1, 2_000_000), st.floats(1e-5, 0.1), st.floats(1e-5, 0.1)
)
def test_more_people_or_a_stricter_promise_never_lowers_it(
    n: int, m: int, fpir: float, other: float
) -> None:
    low, high = sorted((n, m))
    strict, lax = sorted((fpir, other))
    assert TABLE.threshold(low, lax) <= TABLE.threshold(high, lax) + 1e-9
    assert TABLE.threshold(low, lax) <= TABLE.threshold(low, strict) + 1e-9
    assert 0.0 < TABLE.threshold(high, strict) < 1.0


def test_a_dozen_residents_are_held_to_the_threshold_of_a_hundred() -> None:
    assert TABLE.threshold(1, 0.001) == TABLE.threshold(LEAST_TEMPLATES, 0.001)


def test_the_promise_holds_on_scores_drawn_from_the_table() -> None:
    """Strangers whose scores follow the table are let through as rarely as promised."""
    rng = np.random.default_rng(11)
    people, fpir, strangers = 200, 0.05, 4000
    logs = [-np.log10(f) for f, _ in TABLE.impostor_fmr]
    scores = [s for _, s in TABLE.impostor_fmr]
    draws = np.interp(-np.log10(rng.random((strangers, people))), logs, scores)
    measured = float((draws.max(axis=1) >= TABLE.threshold(people, fpir)).mean())
    assert measured == pytest.approx(fpir, abs=0.015)
