"""A whole run on synthetic people gives what comparing everybody by brute force gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.accuracy.packfigures import pack_figures
from agent.accuracy.protocol import Evaluation, PersonPictures, plan
from agent.accuracy.reading import PictureView
from agent.accuracy.report import as_json, as_lines, assess
from agent.accuracy.trial import Run, play
from agent.base.errors import UsageError
from agent.base.values import Quality
from tests.recognition.scores import views

RESIDENTS, EACH, STRANGERS = 60, 6, 300


def folder() -> tuple[list[PersonPictures], dict[Path, PictureView]]:
    """60 people with six views and 300 with one; weights from 0.5 to 1, a few views refused."""
    rng = np.random.default_rng(7)
    rows, owners = views(RESIDENTS, EACH, noise=1.3, seed=1)
    alone, _ = views(STRANGERS, 1, seed=2)
    seen: dict[Path, PictureView] = {}
    people = []
    for who, own in [(f"r{n:02}", rows[owners == n]) for n in range(RESIDENTS)] + [
        (f"s{n:03}", alone[n : n + 1]) for n in range(STRANGERS)
    ]:
        paths = tuple(Path(who) / f"{k}.jpg" for k in range(len(own)))
        people.append(PersonPictures(who, paths))
        for path, row in zip(paths, own, strict=True):
            quality = Quality(float(rng.uniform(0.5, 1)))
            seen[path] = PictureView(
                quality, probe=row, reference=row * np.float32(rng.uniform(0.9, 1.1))
            )
    for name in ("r00/4.jpg", "r01/0.jpg", "s005/0.jpg", *(f"r02/{k}.jpg" for k in range(3))):
        seen[Path(name)] = PictureView(Quality(0.0, "turned_away"))
    return people, seen


PEOPLE, VIEWS = folder()


def trial(images: int = 3, frames: int = 1) -> Evaluation:
    return plan(PEOPLE, gallery_size=None, enroll_images=images, probe_frames=frames)


def played(frames: int = 1) -> Run:
    return play(trial(frames=frames), VIEWS)


def by_hand(frames: int, threshold: float) -> tuple[int, int, int, int]:
    """(missed, probes, passed, strangers), with loops and nothing of the code under test."""
    gallery = {}
    for person in PEOPLE[:RESIDENTS]:
        good = [
            (VIEWS[p].quality.score, reference)
            for p in person.pictures[:3]
            if (reference := VIEWS[p].reference) is not None
        ]
        if good:
            total = np.sum([weight * row / np.linalg.norm(row) for weight, row in good], axis=0)
            length = np.mean([np.linalg.norm(row) for _, row in good])
            gallery[person.name] = total / np.linalg.norm(total) * length
    missed = probes = passed = 0
    for person in PEOPLE[:RESIDENTS]:
        later = person.pictures[3:]
        for i in range(0, len(later) - frames + 1, frames):
            good = [
                (VIEWS[p].quality.score, probe)
                for p in later[i : i + frames]
                if (probe := VIEWS[p].probe) is not None
            ]
            if person.name not in gallery or not good:
                continue
            seen = np.sum([weight * row for weight, row in good], axis=0)
            seen = seen / np.linalg.norm(seen)
            scores = {who: float(row @ seen) for who, row in gallery.items()}
            probes += 1
            nearest = max(scores, key=lambda who: scores[who])
            missed += nearest != person.name or scores[nearest] < threshold
    for person in PEOPLE[RESIDENTS:]:
        view = VIEWS[person.pictures[0]]
        if view.probe is not None:
            passed += max(float(row @ view.probe) for row in gallery.values()) >= threshold
    return missed, probes, passed, STRANGERS


@pytest.mark.parametrize("frames", [1, 3])
def test_errors_are_those_of_comparing_everybody_by_hand(frames: int) -> None:
    run = played(frames)
    for threshold in (0.2, 0.3, 0.4, 0.5):
        fnir, fpir = run.outcomes.fnir(threshold), run.outcomes.fpir(threshold)
        assert (fnir.errors, fnir.trials, fpir.errors, fpir.trials) == by_hand(frames, threshold)
    assert 0 < run.outcomes.fpir(0.3).errors < STRANGERS


def test_failures_to_enrol_and_to_acquire_are_counted_by_themselves() -> None:
    run = played()
    assert (run.fte.errors, run.fte.trials) == (1, RESIDENTS)  # r02, of whom nothing was usable
    assert (run.fta.errors, run.fta.trials) == (1, (RESIDENTS - 1) * 3)
    assert run.fta.clusters == RESIDENTS - 1
    assert (run.stranger_fta.errors, run.stranger_fta.trials) == (1, STRANGERS)
    assert run.reasons == {"turned_away": 6}


def test_fusing_three_probes_misses_fewer() -> None:
    single, fused = played(1).outcomes.fnir(0.5), played(3).outcomes.fnir(0.5)
    assert fused.value < single.value / 2


def test_the_json_has_the_promised_names_and_agrees_with_the_counts() -> None:
    run = played()
    said = as_json(assess(run, [(0.05, 0.33), (0.01, 0.4)], min_margin=0.08))
    assert [item["fpir"] for item in said["results"]] == [0.05, 0.01]
    for item in said["results"]:
        assert {"fnir", "threshold", "fnir_interval", "probes", "strangers"} <= set(item)
        assert item["fpir_measured"] <= item["fpir"]
        assert item["fnir"] == run.outcomes.fnir(item["threshold"]).value
    assert said["calibrated"] == said["calibrated_all"][0]
    assert said["calibrated"]["promised_fpir"] == 0.05
    assert said["calibrated"]["measured_fpir"] == run.outcomes.fpir(0.33).value
    assert said["fte"]["errors"] == 1


def test_a_promise_is_judged_by_what_the_trials_can_prove() -> None:
    run = played()
    said = [
        at.verdict
        for at in assess(run, [(0.001, 0.99), (0.0001, 0.2), (0.01, 0.41)], 0.0).calibrated
    ]
    assert said[0].startswith("kept: no stranger of 300 passed, which proves at most 0.99%")
    assert said[1].startswith("NOT kept")
    assert said[2].startswith(("within sampling error", "kept"))


def test_groups_add_up_to_the_whole() -> None:
    groups = {person.name: "even" if int(person.name[-1]) % 2 == 0 else "odd" for person in PEOPLE}
    del groups["r03"]
    run = played()
    report = assess(run, [(0.05, 0.33)], 0.08, groups)
    assert [item.group for item in report.groups] == ["(no group)", "even", "odd"]
    assert sum(item.fnir[0].errors for item in report.groups) == run.outcomes.fnir(0.33).errors
    assert sum(item.fpir[0].trials for item in report.groups) == STRANGERS
    assert any("even" in line for line in as_lines(report, 0.08))


def test_the_table_states_intervals_and_failures() -> None:
    text = "\n".join(as_lines(assess(played(), [(0.01, 0.41)], 0.08), 0.08))
    for part in ("FTE", "FTA", "95% interval", "calibrated threshold", "turned_away 6",
                 "of FNIR and FTA: by 59 residents", "of FTE and FPIR: exact"):  # fmt: skip
        assert part in text


def test_without_strangers_or_anybody_enrolled_nothing_is_claimed() -> None:
    nobody = {path: PictureView(Quality(0.0, "blurred")) for path in VIEWS}
    with pytest.raises(UsageError, match="nobody could be enrolled"):
        play(trial(), nobody)
    alone = plan(PEOPLE[:RESIDENTS], gallery_size=None, enroll_images=3, probe_frames=1)
    with pytest.raises(UsageError, match="0 strangers"):
        play(alone, VIEWS)


def test_a_packs_figures_come_as_lines_for_the_manifest() -> None:
    rows, owners = views(150, 6, seed=11)
    several, seen = [], {}
    for number in range(150):
        paths = tuple(Path(f"p{number}") / f"{k}.jpg" for k in range(6))
        several.append(PersonPictures(f"p{number}", paths))
        for path, row in zip(paths, rows[owners == number], strict=True):
            seen[path] = PictureView(Quality(0.8), probe=row, reference=row)
    figures = pack_figures(several, seen)
    assert (figures.measured.people, figures.measured.pairs) == (150, 900 * 894)
    assert 0 <= figures.averaging < 0.2  # random directions stay random when averaged
    text = figures.toml("made-up", "nobody real")
    assert "[packs.made-up.impostor_tail]" in text
    assert f"start = {figures.measured.tail.start:.4f}" in text
