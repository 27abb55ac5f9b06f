"""The threshold follows from the size of the gallery and the promise, never from a constant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.errors import GalleryError
from agent.packs.manifest import load_manifest
from agent.recognition.calibration import (
    LEAST_TEMPLATES,
    Calibration,
    from_measured,
    load,
    measure_residents,
    save,
)
from agent.recognition.rules import pack_calibration
from agent.recognition.tail import Tail, measure
from agent.recognition.templates import TemplateSet
from tests.recognition.scores import views

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


TAIL = Tail(start=0.23, rate=0.001, scale=0.025, shape=-0.05)
FITTED = Calibration(TABLE.impostor_fmr[:3], TAIL, ((0.001, 0.002), (1e-6, 0.02)), averaging=0.06)


def test_beyond_the_table_the_fitted_tail_decides() -> None:
    plain = Calibration(FITTED.impostor_fmr, TAIL)
    assert plain.threshold(1000, 0.01) == pytest.approx(TAIL.cosine(1.005e-5), abs=1e-4)


def test_an_uncertain_tail_keeps_the_promise_on_average() -> None:
    """Thresholds read from tails that err by their standard error let as many pass as promised."""
    fmr, error = 1e-5, 0.014
    certain = Calibration(FITTED.impostor_fmr, TAIL, ((1e-3, error), (1e-6, error)))
    wrong = np.random.default_rng(4).normal(0, error, 20_000)
    chances = [TAIL.survival(TAIL.cosine(fmr) + certain.allowance(fmr) + float(e)) for e in wrong]
    assert np.mean(chances) == pytest.approx(fmr, rel=0.15)
    without = [TAIL.survival(TAIL.cosine(fmr) + float(e)) for e in wrong]
    assert np.mean(without) > 1.2 * fmr


def test_table_and_tail_meet_without_a_step() -> None:
    assert FITTED.cosine(0.001001) == pytest.approx(FITTED.cosine(0.000999), abs=1e-4)


def test_averaged_views_ask_for_more() -> None:
    single = FITTED.threshold(250, 0.001)
    assert FITTED.threshold(250, 0.001, images=3) == pytest.approx(single * 1.04)
    assert FITTED.threshold(250, 0.001, images=3, views=2) == pytest.approx(single * 1.04 * 1.03)


def test_the_promise_holds_for_strangers_the_measurement_has_never_seen() -> None:
    """Measured on some people, promised for others: the share that passes is about the promise."""
    rows, owners = views(people=300, each=4, seed=3)
    calibration = from_measured(measure(rows, owners, rows, owners), averaging=0.0)
    residents, _ = views(people=250, each=1, seed=4)
    strangers, _ = views(people=20_000, each=1, seed=5)
    best = (strangers @ residents.T).max(axis=1)
    for promise in (0.01, 0.001):
        passed = float((best >= calibration.threshold(250, promise)).mean())
        assert promise / 3 <= passed <= promise * 1.5


def residents(people: int, each: int = 1) -> TemplateSet:
    rows, owners = views(people=people, each=each, seed=8)
    return TemplateSet.build((f"r{n}", rows[owners == n]) for n in range(people))


def test_a_town_measures_itself_on_its_own_residents(tmp_path: Path) -> None:
    found = measure_residents(residents(600))
    assert (found.people, found.pairs) == (600, 600 * 599)
    file = tmp_path / "calibration.json"
    save(file, "buffalo_s", found)
    kept = load(file, "buffalo_s")
    assert kept is not None
    assert kept.threshold(600, 0.001) == from_measured(found, 0.0).threshold(600, 0.001)
    assert load(file, "another") is None
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_size < 2000  # numbers on all together, nobody's template


def test_a_template_s_weight_does_not_count_twice_among_residents() -> None:
    """At the door the probe has length 1; only the template is weighted."""
    plain = residents(600)
    longer = TemplateSet(plain.matrix * np.float32(1.1), plain.owners, plain.ids)
    ratio = measure_residents(longer).tail.start / measure_residents(plain).tail.start
    assert ratio == pytest.approx(1.1, abs=0.005)


def test_a_few_residents_are_too_few_to_measure_on() -> None:
    with pytest.raises(GalleryError, match="499 residents"):
        measure_residents(residents(499))


def test_without_a_measurement_of_its_own_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path / "calibration.json", "buffalo_s") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pack": "p"}', '{"pack": "p", "fmr": []}'])
def test_a_damaged_measurement_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(GalleryError, match="kaopass gallery calibrate"):
        load(file, "p")


def test_a_measurement_that_would_let_everybody_in_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    save(file, "p", measure_residents(residents(600)))
    low = file.read_text(encoding="utf-8").replace('"start": 0.', '"start": -0.')
    file.write_text(low, encoding="utf-8")
    with pytest.raises(GalleryError, match="make no threshold"):
        load(file, "p")


def test_the_default_pack_comes_with_a_fitted_tail_and_what_averaging_does() -> None:
    shipped = pack_calibration(load_manifest().pack("buffalo_s"))
    assert shipped.tail is not None
    assert 0.3 < shipped.threshold(250, 0.001) < shipped.threshold(250, 0.001, images=3) < 0.45
    assert shipped.error(1e-6) > shipped.error(1e-4) > 0
