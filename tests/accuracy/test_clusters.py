"""What trials prove that are not independent: visits of one person, images of one sequence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.accuracy.presentation import apcer, bpcer
from agent.accuracy.rates import Outcomes, Rate
from agent.base.values import Candidate


def coverage(
    people: int, visits: tuple[int, int], rate: float, alike: float, runs: int = 600
) -> tuple[float, float]:
    """How often intervals hold the true *rate*, by people and by trials as if independent.

    Everybody has an error rate of their own, beta distributed with correlation *alike*.
    """
    rng = np.random.default_rng(5)
    spread = 1 / alike - 1
    held = np.zeros(2)
    for _ in range(runs):
        own = rng.beta(rate * spread, (1 - rate) * spread, people)
        of = np.repeat(np.arange(people), rng.integers(*visits, people))
        by_people = Rate.clustered((rng.random(len(of)) < own[of]).tolist(), of.tolist())
        by_trials = replace(by_people, clusters=None, worth=None)
        for k, (low, high) in enumerate((by_people.interval, by_trials.interval)):
            held[k] += low <= rate <= high
    by_people_held, by_trials_held = (held / runs).tolist()
    return by_people_held, by_trials_held


@pytest.mark.parametrize(
    ("people", "visits", "rate", "alike"),
    [
        (17, (20, 36), 0.18, 0.3),  # images of few live sequences
        (250, (1, 6), 0.02, 0.3),  # residents who come a few times
        (250, (1, 6), 0.005, 0.3),  # and are hardly ever missed
    ],
)
def test_19_of_20_intervals_hold_the_true_rate_which_counting_trials_does_not_reach(
    people: int, visits: tuple[int, int], rate: float, alike: float
) -> None:
    by_people, by_trials = coverage(people, visits, rate, alike)
    assert by_people >= 0.94  # 0.95 less one standard error of 600 runs
    assert by_trials < 0.91


def test_copies_of_each_trial_prove_no_more_than_one() -> None:
    wrong = [n < 5 for n in range(40)]
    copies = Rate.clustered([w for w in wrong for _ in range(10)], [n // 10 for n in range(400)])
    assert (copies.errors, copies.trials, copies.clusters) == (50, 400, 40)
    low, high = Rate(5, 40).interval
    found = copies.interval
    assert found[0] == pytest.approx(low, abs=0.01)
    assert found[1] == pytest.approx(high, abs=0.03)
    assert found[1] - found[0] >= high - low


def test_without_any_error_each_person_counts_once() -> None:
    low, high = Rate.clustered([False] * 90, [n // 3 for n in range(90)]).interval
    assert low == 0.0
    assert high == pytest.approx(3 / 30, rel=0.06)
    assert Rate.clustered([True] * 90, [n // 3 for n in range(90)]).interval == pytest.approx(
        Rate(30, 30).interval
    )


def test_where_all_people_agree_each_counts_once() -> None:
    half = Rate.clustered([True, False] * 20, [n // 2 for n in range(40)])
    assert half.interval == pytest.approx(Rate(10, 20).interval)


def test_trials_of_one_person_prove_next_to_nothing() -> None:
    low, high = Rate.clustered([True, *[False] * 99], ["ann"] * 100).interval
    assert low < 0.01
    assert high > 0.95


def test_where_everybody_comes_once_the_interval_is_the_exact_one() -> None:
    assert Rate.clustered([True, False, False], ["ann", "ben", "cho"]) == Rate(1, 3)
    assert Rate.clustered([], []) == Rate(0, 0)


def test_each_trial_must_say_whose_it_is() -> None:
    with pytest.raises(ValueError, match="2 trials, but 1 say"):
        Rate.clustered([True, False], ["ann"])


def test_misses_of_residents_are_counted_by_people_and_strangers_one_by_one() -> None:
    mated = [(f"r{n}", Candidate(f"r{n}", 0.1 if n < 2 else 0.9, 0.0)) for n in range(50)] * 3
    found = Outcomes.of(mated, [Candidate("r1", 0.1 * (n % 9), 0.0) for n in range(200)])
    fnir = found.fnir(0.5)
    assert (fnir.errors, fnir.trials, fnir.clusters) == (6, 150, 50)
    assert fnir.interval[1] > Rate(6, 150).interval[1]
    fpir = found.fpir(0.5)
    assert fpir == Rate(fpir.errors, 200)


def test_images_of_a_presentation_are_counted_by_presentations() -> None:
    scores = [[0.2] * 9, [0.9] * 9, [0.8] * 9]
    refused, passed = bpcer(scores, 0.5), apcer(scores, 0.5)
    assert (refused.errors, refused.trials, refused.clusters) == (9, 27, 3)
    assert (passed.errors, passed.trials, passed.clusters) == (18, 27, 3)
    assert bpcer([[0.2], [0.9]], 0.5) == Rate(1, 2)
