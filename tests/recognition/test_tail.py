"""The tail of impostor scores: fitted right, with honest errors, not misled by wrong labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import genpareto

from agent.base.errors import UsageError
from agent.recognition.tail import Tail, fit, measure
from tests.recognition.scores import views


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_the_law_that_made_the_scores_is_found_again(shape: float) -> None:
    excess = genpareto.rvs(shape, scale=0.03, size=20_000, random_state=5)
    found = fit(excess, np.ones(len(excess)), start=0.25, rate=1e-3)
    assert found.shape == pytest.approx(shape, abs=0.04)
    assert found.scale == pytest.approx(0.03, rel=0.04)


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_cosine_and_survival_are_each_others_inverse_and_agree_with_scipy(shape: float) -> None:
    tail = Tail(start=0.25, rate=1e-3, scale=0.03, shape=shape)
    for rate in (1e-3, 1e-4, 1e-6):
        cosine = tail.cosine(rate)
        assert tail.survival(cosine) == pytest.approx(rate, rel=1e-6)
        expected = 1e-3 * genpareto.sf(cosine - 0.25, shape, scale=0.03)
        assert expected == pytest.approx(rate, rel=1e-6)


def test_weights_count_an_excess_as_often_as_they_say() -> None:
    excess = np.random.default_rng(2).exponential(0.03, 400)
    times = np.random.default_rng(3).integers(0, 3, 400)
    weighted = fit(excess, times.astype(float), 0.2, 1e-3)
    repeated = fit(np.repeat(excess, times), np.ones(times.sum()), 0.2, 1e-3)
    assert weighted.scale == pytest.approx(repeated.scale, rel=0.01)
    assert weighted.shape == pytest.approx(repeated.shape, abs=0.02)


def test_measured_quantiles_are_those_of_all_pairs_of_different_people() -> None:
    rows, owners = views(people=120, each=5)
    found = measure(rows, owners, rows, owners)
    scores = (rows @ rows.T)[owners[:, None] != owners[None, :]]
    assert found.pairs == len(scores)
    for rate, cosine in found.fmr:
        assert cosine == pytest.approx(float(np.quantile(scores, 1 - rate)), abs=2e-3)
    rarer = found.tail.cosine(1e-4)
    assert rarer == pytest.approx(float(np.quantile(scores, 1 - 1e-4)), abs=0.02)


def test_one_person_under_two_names_is_left_out_and_counted() -> None:
    rows, owners = views(people=120, each=5)
    clean = measure(rows, owners, rows, owners)
    twice = owners.copy()
    twice[3:5] = 120  # two pictures of the first person in a folder of their own
    found = measure(rows, twice, rows, twice)
    assert (clean.doubles, found.doubles) == (0, 1)
    assert found.tail.cosine(1e-5) == pytest.approx(clean.tail.cosine(1e-5), abs=0.01)


def test_fewer_people_make_the_threshold_less_sure() -> None:
    errors = []
    for people in (90, 300):
        rows, owners = views(people=people, each=6)
        found = dict(measure(rows, owners, rows, owners).errors)
        errors.append(found[1e-5])
    assert errors[1] < errors[0]


def test_too_few_people_say_nothing() -> None:
    rows, owners = views(people=20, each=5)
    with pytest.raises(UsageError, match="20 people"):
        measure(rows, owners, rows, owners)
    rows, owners = views(people=60, each=1)
    with pytest.raises(UsageError, match="highest thousandth"):
        measure(rows, owners, rows, owners)
