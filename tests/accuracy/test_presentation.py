"""APCER, BPCER and EER on scores whose figures are known."""

from __future__ import annotations

import pytest

from agent.accuracy.presentation import apcer, bpcer, eer


def test_a_score_at_the_threshold_passes() -> None:
    assert bpcer([0.5, 0.4], 0.5).errors == 1
    assert apcer([0.5, 0.4], 0.5).errors == 1


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
