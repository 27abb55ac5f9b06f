"""Rates, intervals and thresholds are what counting by hand gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from agent.accuracy.rates import NEVER, Outcomes, Rate
from agent.base.values import Candidate

SCORES = st.lists(st.integers(-20, 20).map(lambda n: n / 20), min_size=1, max_size=40)


@pytest.mark.parametrize(("errors", "trials"), [(1, 10), (7, 1000), (17, 715), (9, 10), (10, 10)])
def test_the_interval_is_clopper_and_pearsons(errors: int, trials: int) -> None:
    expected = binomtest(errors, trials).proportion_ci(0.95, method="exact")
    assert Rate(errors, trials).interval == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("trials", [50, 119, 1000])
def test_no_error_in_n_trials_proves_three_in_n(trials: int) -> None:
    low, high = Rate(0, trials).interval
    assert low == 0
    assert high == pytest.approx(3 / trials, rel=0.04)


def test_without_trials_nothing_is_known() -> None:
    assert Rate(0, 0).interval == (0.0, 1.0)


def outcomes(mated: list[float], strange: list[float]) -> Outcomes:
    return Outcomes.of(
        [("ann", Candidate("ann", s, -1.0)) for s in mated],
        [Candidate("ann", s, -1.0) for s in strange],
    )


@given(SCORES, SCORES, st.floats(-1, 1))
def test_rates_are_those_of_counting_one_by_one(
    mated: list[float], strange: list[float], threshold: float
) -> None:
    found = outcomes(mated, strange)
    assert found.fnir(threshold).errors == sum(1 for s in mated if s < threshold)
    assert found.fpir(threshold).errors == sum(1 for s in strange if s >= threshold)


@given(SCORES, st.sampled_from([0.001, 0.01, 0.1, 0.25, 0.5]))
def test_the_threshold_is_the_lowest_that_keeps_the_rate(strange: list[float], fpir: float) -> None:
    found = outcomes([0.5], strange)
    threshold = found.threshold_for(fpir)
    assert found.fpir(threshold).errors <= fpir * len(strange) + 1e-9
    lower = [s for s in strange if s < threshold]
    if lower:
        assert found.fpir(max(lower)).errors > fpir * len(strange)


def test_a_thousandth_of_a_thousand_is_one() -> None:
    """The product is 1.0000000000000002 or 0.9999... in floating point; neither may matter."""
    strange = [n / 1000 for n in range(1000)]
    for share, allowed in ((0.001, 1), (0.003, 3), (0.007, 7), (0.01, 10), (0.029, 29)):
        found = outcomes([0.5], strange)
        assert found.fpir(found.threshold_for(share)).errors == allowed


def test_the_wrong_name_is_a_miss_however_high_the_score() -> None:
    found = Outcomes.of([("ann", Candidate("ben", 0.9, 0.1))], [Candidate("ben", 0.1, 0.0)])
    assert found.fnir(-1.0) == Rate(1, 1)
    assert found.mated[0] == NEVER


def test_a_lead_over_the_runner_up_can_be_asked_for() -> None:
    found = Outcomes.of(
        [("ann", Candidate("ann", 0.6, 0.55)), ("ben", Candidate("ben", 0.6, 0.3))],
        [Candidate("ann", 0.6, 0.58), Candidate("ann", 0.6, 0.1)],
    )
    assert (found.fnir(0.5).errors, found.fpir(0.5).errors) == (0, 2)
    assert (found.fnir(0.5, 0.08).errors, found.fpir(0.5, 0.08).errors) == (1, 1)


@given(SCORES, SCORES)
def test_the_curve_agrees_with_the_rates_at_every_point(
    mated: list[float], strange: list[float]
) -> None:
    found = outcomes(mated, strange)
    for at, fpir, fnir in np.stack(found.curve(), axis=1):
        assert fpir == pytest.approx(found.fpir(at).value)
        assert fnir == pytest.approx(found.fnir(at).value)
