"""APCER, BPCER and EER on scores whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from agent.accuracy.presentation import apcer, bpcer, eer, eer_interval


def test_a_score_at_the_threshold_passes() -> None:
    assert bpcer([[0.5], [0.4]], 0.5).errors == 1
    assert apcer([[0.5], [0.4]], 0.5).errors == 1


def test_apart_they_have_no_errors_and_mixed_they_have_half() -> None:
    assert eer([0.8, 0.9], [0.1, 0.2]) == 0.0
    assert eer([0.1, 0.9], [0.1, 0.9]) == pytest.approx(0.5)


def test_one_of_ten_on_each_side() -> None:
    live = [0.2, *[0.9] * 9]
    attacks = [0.95, *[0.1] * 9]
    assert eer(live, attacks) == pytest.approx(0.1)


def test_without_attacks_there_is_no_equal_error_rate() -> None:
    assert eer([0.5], []) is None
    assert eer([], [0.5]) is None


def test_the_interval_of_an_equal_error_rate_holds_it_and_draws_presentations_whole() -> None:
    rng = np.random.default_rng(3)
    live = [list(rng.normal(1.0, 1.0, 1)) for _ in range(200)]
    attacks = [list(rng.normal(-1.0, 1.0, 1)) for _ in range(200)]
    value = eer(*([score for one in kind for score in one] for kind in (live, attacks)))
    found = eer_interval(live, attacks)
    assert value is not None
    assert found is not None
    low, high = found
    assert low < value < high
    assert high - low == pytest.approx(0.1, abs=0.04)  # 2 x 1.96 x sqrt(0.16 x 0.84 / 200)
    # Ten copies of each score in its presentation prove no more than one.
    copies = eer_interval([one * 10 for one in live], [one * 10 for one in attacks])
    assert copies == pytest.approx(found, abs=0.02)


def test_without_attacks_the_equal_error_rate_has_no_interval() -> None:
    assert eer_interval([[0.5]], []) is None
    assert eer_interval([[]], [[0.5]]) is None
