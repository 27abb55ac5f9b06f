"""Search gives what comparing with everybody one by one gives, at the cost of one product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.values import Candidate, Vector
from agent.recognition.matcher import BLOCK_ROWS, FEW_PROBES, Matcher, PatchedMatcher
from agent.recognition.templates import TemplateSet


def unit(rows: Vector) -> Vector:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def random_people(people: int, rows: int, values: int, seed: int) -> list[tuple[str, Vector]]:
    rng = np.random.default_rng(seed)
    blocks = unit(rng.standard_normal((people, rows, values), np.float32))
    return [(f"p{number}", block) for number, block in enumerate(blocks)]


def one_by_one(people: list[tuple[str, Vector]], probe: Vector) -> list[tuple[float, str]]:
    """Everybody's similarity, best first, in double precision."""
    scores = [
        (max(float(row.astype(float) @ probe.astype(float)) for row in rows), name)
        for name, rows in people
    ]
    return sorted(scores, reverse=True)


# Few small numbers: ties and equal templates are common, zero vectors are left out.
vectors = st.lists(st.integers(-2, 2), min_size=4, max_size=4).filter(any)


@settings(deadline=None, max_examples=200)
@given(
    gallery=st.lists(st.lists(vectors, min_size=1, max_size=4), min_size=1, max_size=7),
    probes=st.lists(vectors, min_size=1, max_size=3),
)
def test_search_agrees_with_comparing_one_by_one(
    gallery: list[list[list[int]]], probes: list[list[int]]
) -> None:
    people = [(f"p{i}", unit(np.array(rows, np.float32))) for i, rows in enumerate(gallery)]
    wanted = unit(np.array(probes, np.float32))
    found = Matcher(TemplateSet.build(people)).search(wanted)
    assert len(found) == len(probes)
    for candidate, probe in zip(found, wanted, strict=True):
        ranking = one_by_one(people, probe)
        best = ranking[0][0]
        assert candidate.similarity == pytest.approx(best, abs=1e-6)
        assert candidate.person in {name for score, name in ranking if score > best - 1e-6}
        runner_up = ranking[1][0] if len(ranking) > 1 else -1.0
        assert candidate.runner_up == pytest.approx(runner_up, abs=1e-6)


def test_the_runner_up_is_another_person_not_another_template() -> None:
    probe = unit(np.array([1, 0, 0], np.float32))
    near = unit(np.array([[1, 0, 0], [1, 0.1, 0]], np.float32))
    far = unit(np.array([[0, 1, 0]], np.float32))
    (found,) = Matcher(TemplateSet.build([("a", near), ("b", far)])).search(probe[None])
    assert found == Candidate("a", 1.0, 0.0)


def test_a_tie_leaves_no_margin() -> None:
    row = unit(np.array([[1, 2, 3]], np.float32))
    (found,) = Matcher(TemplateSet.build([("a", row), ("b", row)])).search(row)
    assert found.similarity == found.runner_up


def test_an_empty_gallery_knows_nobody() -> None:
    matcher = Matcher(TemplateSet.build([]))
    assert matcher.search(np.eye(3, 512, dtype=np.float32)) == [Candidate(None, 0.0, -1.0)] * 3
    assert (matcher.people, matcher.rows) == (0, 0)


def test_no_probes_give_no_answers() -> None:
    matcher = Matcher(TemplateSet.build(random_people(3, 2, 8, seed=1)))
    assert matcher.search(np.zeros((0, 8), np.float32)) == []
    assert (matcher.people, matcher.rows) == (3, 6)


def test_a_broken_embedding_is_no_answer() -> None:
    matcher = Matcher(TemplateSet.build(random_people(3, 2, 8, seed=1)))
    with pytest.raises(ValueError, match="finite"):
        matcher.search(np.full((1, 8), np.nan, np.float32))
    with pytest.raises(ValueError, match="different models"):
        matcher.search(np.ones((1, 9), np.float32))


def test_search_changes_nothing() -> None:
    """The same probes twice give the same answers."""
    matcher = Matcher(TemplateSet.build(random_people(20, 3, 16, seed=2)))
    probes = unit(np.random.default_rng(3).standard_normal((5, 16)).astype(np.float32))
    before = probes.copy()
    assert matcher.search(probes) == matcher.search(probes)
    assert np.array_equal(probes, before)


def test_a_repeated_id_is_one_person_with_more_templates() -> None:
    rows = unit(np.random.default_rng(4).standard_normal((3, 8)).astype(np.float32))
    templates = TemplateSet.build([("a", rows[0]), ("b", rows[1:2]), ("a", 1.1 * rows[2])])
    assert templates.ids == ("a", "b")
    assert templates.owners.tolist() == [0, 0, 1]
    expected = np.stack([rows[0], np.float32(1.1) * rows[2], rows[1]])
    np.testing.assert_allclose(templates.matrix, expected, atol=1e-6)


def test_an_embedding_without_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="length 0 or is not finite"):
        TemplateSet.build([("a", np.zeros((1, 4), np.float32))])


@pytest.mark.parametrize(
    ("matrix", "owners", "ids"),
    [
        (np.eye(2, dtype=np.float64), [0, 1], ("a", "b")),
        (np.asfortranarray(np.eye(3, 2, dtype=np.float32)), [0, 1, 1], ("a", "b")),
        (np.eye(2, dtype=np.float32), [1, 0], ("a", "b")),
        (np.eye(2, dtype=np.float32), [0, 2], ("a", "b")),
        (np.eye(2, dtype=np.float32), [0], ("a",)),
        (np.eye(2, dtype=np.float32), [0, 0], ("a", "b")),
    ],
    ids=["double", "by columns", "unsorted", "beyond", "too few", "nobody's"],
)
def test_a_layout_that_search_cannot_rely_on_is_refused(
    matrix: Vector, owners: list[int], ids: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        TemplateSet(matrix, np.array(owners, np.int32), ids)


def test_everybody_in_a_town_is_found_among_all() -> None:
    """25,324 people; what a search costs beside one product is told by `kaopass bench match`."""
    rng = np.random.default_rng(5)
    rows = unit(rng.standard_normal((25_324, 512), np.float32))
    owners = np.arange(25_324, dtype=np.int32)
    matcher = Matcher(TemplateSet(rows, owners, tuple(map(str, owners))))
    wanted = list(range(0, 25_324, 997))
    found = matcher.search(rows[wanted])
    assert [candidate.person for candidate in found] == [str(n) for n in wanted]
    assert all(candidate.runner_up < 0.4 for candidate in found)


@pytest.mark.parametrize("seed", range(6))
def test_a_patched_search_answers_as_one_of_everybody_would(seed: int) -> None:
    """Some are gone, some changed, some new; everybody gone and nobody new among them."""
    chance = np.random.default_rng(seed)

    def rows() -> Vector:
        found = chance.standard_normal((int(chance.integers(1, 4)), 16)).astype(np.float32)
        unit: Vector = found / np.linalg.norm(found, axis=1, keepdims=True)
        return unit

    before = {f"r-{n}": rows() for n in range(8)}
    gone = {name for name in before if seed == 5 or chance.random() < 0.4}
    new = {} if seed in (4, 5) else {name: rows() for name in [*sorted(gone)[:2], "x", "y"]}
    after = {name: own for name, own in before.items() if name not in gone} | new
    probes = np.concatenate([rows() for _ in range(20)])
    patched = PatchedMatcher(
        Matcher(TemplateSet.build(before.items())), gone, TemplateSet.build(new.items())
    )
    whole = Matcher(TemplateSet.build(after.items()))
    for found, expected in zip(patched.search(probes), whole.search(probes), strict=True):
        assert found.person == expected.person
        assert found.similarity == pytest.approx(expected.similarity, abs=1e-6)
        assert found.runner_up == pytest.approx(expected.runner_up, abs=1e-6)


def test_few_probes_and_many_get_the_same_answers() -> None:
    """They are multiplied differently, few of them block by block."""
    rng = np.random.default_rng(5)
    people = 2 * BLOCK_ROWS + 77
    rows = rng.standard_normal((people, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matcher = Matcher(TemplateSet.build([(f"r{n}", rows[n : n + 1]) for n in range(people)]))
    probes = rows[rng.integers(0, people, 4 * FEW_PROBES)]
    many = matcher.search(probes)
    for few in (1, 2, FEW_PROBES):
        found = [
            c for at in range(0, len(probes), few) for c in matcher.search(probes[at : at + few])
        ]
        assert [c.person for c in found] == [c.person for c in many]
        for one, other in zip(found, many, strict=True):
            assert one.similarity == pytest.approx(other.similarity, abs=1e-6)
            assert one.runner_up == pytest.approx(other.runner_up, abs=1e-6)
