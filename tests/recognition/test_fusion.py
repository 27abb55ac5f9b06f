"""Several views become one: a direction, and for a template a weight."""

from __future__ import annotations

import numpy as np
import pytest

from agent.recognition.fusion import Means, fuse, template
from tests.recognition.scores import views


def test_the_fused_view_is_nearer_to_the_person_than_any_single_one() -> None:
    rows, owners = views(people=30, each=6, noise=1.0)
    clean, _ = views(people=30, each=1, noise=0.0)
    for person in range(30):
        own = rows[owners == person]
        fused = fuse(own, [1.0] * 6)
        assert fused @ clean[person] > (own @ clean[person]).max()
        assert np.linalg.norm(fused) == pytest.approx(1, abs=1e-6)


def test_a_better_view_counts_for_more() -> None:
    good, poor = np.eye(2, 8, dtype=np.float32)
    fused = fuse([good, poor], [0.9, 0.3])
    assert fused @ good == pytest.approx(0.9 / np.hypot(0.9, 0.3), abs=1e-6)


def test_a_view_of_no_quality_still_says_something() -> None:
    row = np.eye(1, 8, dtype=np.float32)
    np.testing.assert_allclose(fuse(row, [0.0]), row[0])


@pytest.mark.parametrize(("rows", "weights"), [(0, 0), (2, 1)])
def test_rows_and_weights_that_do_not_match_are_refused(rows: int, weights: int) -> None:
    with pytest.raises(ValueError, match="cannot be fused"):
        fuse(np.ones((rows, 4), np.float32), [1.0] * weights)


def test_a_template_points_where_its_views_do_and_is_as_long_as_they_are_on_average() -> None:
    rows = np.eye(2, 8, dtype=np.float32) * np.array([[1.2], [0.9]], np.float32)
    made = template(rows, [1.0, 1.0])
    assert np.linalg.norm(made) == pytest.approx(1.05, abs=1e-6)
    assert made[0] == pytest.approx(made[1])
    assert made.dtype == np.float32


def test_templates_gathered_one_by_one_are_fused_as_all_at_once_the_longer_the_less() -> None:
    rows, owners = views(people=3, each=4, noise=1.0)
    rows *= np.linspace(0.9, 1.2, len(rows), dtype=np.float32)[:, np.newaxis]
    order = np.random.default_rng(1).permutation(len(rows))
    means = Means(4, rows.shape[1])
    for row in order:
        assert means.add(int(owners[row]), rows[row])
    assert means.add(3, rows[0])
    found = means.rows()
    for person in range(3):
        own = rows[owners == person]
        want = template(own, (np.linalg.norm(own, axis=1) ** -2.0).tolist())
        np.testing.assert_allclose(found[person], want, atol=1e-6)
    np.testing.assert_array_equal(found[3], rows[0])


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_that_is_no_template_spoils_no_other(bad: float) -> None:
    means = Means(1, 8)
    row = np.eye(1, 8, dtype=np.float32)[0]
    assert means.add(0, row)
    assert not means.add(0, np.full(8, bad, np.float32))
    np.testing.assert_array_equal(means.rows(), row[np.newaxis])
