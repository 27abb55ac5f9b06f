"""What a run showed, as values for a program and as a table for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np

from agent.accuracy.rates import Outcomes, Rate
from agent.accuracy.trial import Run

UNGROUPED = "(no group)"


@dataclass(frozen=True, slots=True)
class AtFpir:
    """The run at the threshold that lets the share *asked* of its own strangers pass."""

    asked: float
    threshold: float
    fnir: Rate
    fpir: Rate


@dataclass(frozen=True, slots=True)
class AtPromise:
    """The run at the threshold that the calibration gives for a promise, set without it.

    ``door_fnir`` and ``door_fpir`` ask for the margin over the runner-up as well, as the door does.
    """

    promised: float
    threshold: float
    fnir: Rate
    fpir: Rate
    door_fnir: Rate
    door_fpir: Rate

    @property
    def verdict(self) -> str:
        """Whether these strangers are compatible with the promise, in words."""
        low, high = self.fpir.interval
        if self.fpir.errors == 0:
            return (
                f"kept: no stranger of {self.fpir.trials} passed, which proves at most "
                f"{percent(high)}"
            )
        if low > self.promised:
            return f"NOT kept: more strangers passed than chance explains (from {percent(low)})"
        if high < self.promised:
            return f"kept with room to spare (at most {percent(high)})"
        return f"within sampling error of the promise ({percent(low)} to {percent(high)})"


@dataclass(frozen=True, slots=True)
class OfGroup:
    """One group's errors at each promise's threshold, in the order of the promises."""

    group: str
    fnir: tuple[Rate, ...]
    fpir: tuple[Rate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class AccuracyReport:
    run: Run
    results: tuple[AtFpir, ...]
    calibrated: tuple[AtPromise, ...]
    groups: tuple[OfGroup, ...]


def assess(
    run: Run,
    promises: Sequence[tuple[float, float]],
    min_margin: float,
    groups: Mapping[str, str] | None = None,
) -> AccuracyReport:
    """Judge *run* at each promise: (FPIR, calibrated threshold). *groups* is person to group."""
    found = run.outcomes
    results, calibrated = [], []
    for fpir, threshold in promises:
        own = found.threshold_for(fpir)
        results.append(AtFpir(fpir, own, found.fnir(own), found.fpir(own)))
        calibrated.append(
            AtPromise(
                promised=fpir,
                threshold=threshold,
                fnir=found.fnir(threshold),
                fpir=found.fpir(threshold),
                door_fnir=found.fnir(threshold, min_margin),
                door_fpir=found.fpir(threshold, min_margin),
            )
        )
    thresholds = [threshold for _, threshold in promises]
    return AccuracyReport(
        run, tuple(results), tuple(calibrated), tuple(_by_group(run, thresholds, groups))
    )


def _by_group(
    run: Run, thresholds: Sequence[float], groups: Mapping[str, str] | None
) -> Iterator[OfGroup]:
    if groups is None:
        return
    mates = np.array([groups.get(person, UNGROUPED) for person in run.outcomes.mated_people])
    strangers = np.array([groups.get(person, UNGROUPED) for person in run.strange_people])
    for group in sorted({*mates, *strangers}):
        here, there = mates == group, strangers == group
        part = Outcomes(
            mated=run.outcomes.mated[here],
            mated_margin=run.outcomes.mated_margin[here],
            mated_people=tuple(compress(run.outcomes.mated_people, here)),
            strange=run.outcomes.strange[there],
            strange_margin=run.outcomes.strange_margin[there],
        )
        yield OfGroup(
            str(group),
            tuple(part.fnir(threshold) for threshold in thresholds),
            tuple(part.fpir(threshold) for threshold in thresholds),
        )


def as_json(report: AccuracyReport) -> dict[str, Any]:
    """Everything, with the names issue and README promise."""
    run = report.run
    calibrated = [_promise(item) for item in report.calibrated]
    values: dict[str, Any] = {
        "results": [
            {
                "fpir": item.asked,
                "fnir": item.fnir.value,
                "threshold": round(item.threshold, 5),
                "fnir_interval": _interval(item.fnir),
                "probes": item.fnir.trials,
                "people": len(set(run.outcomes.mated_people)),
                "strangers": item.fpir.trials,
                "missed": item.fnir.errors,
                "fpir_measured": item.fpir.value,
                "fpir_interval": _interval(item.fpir),
                "fnir_with_fta": fnir_with_fta(item.fnir, run.fta),
            }
            for item in report.results
        ],
        "calibrated": calibrated[0],
        "calibrated_all": calibrated,
        "enrolled": len(run.templates.ids),
        "enrolled_with_fewer_images": run.short,
        "fte": _rate(run.fte),
        "fta": _rate(run.fta),
        "stranger_fta": _rate(run.stranger_fta),
        "refused_pictures": dict(run.reasons),
    }
    if report.groups:
        values["groups"] = [
            {
                "group": item.group,
                "fnir": [_rate(rate) for rate in item.fnir],
                "fpir": [_rate(rate) for rate in item.fpir],
            }
            for item in report.groups
        ]
    return values


def fnir_with_fta(fnir: Rate, fta: Rate) -> float:
    """Misses among all visits, also those of which no picture could be used."""
    return (fnir.errors + fta.errors) / (fnir.trials + fta.errors)


def _promise(item: AtPromise) -> dict[str, Any]:
    return {
        "promised_fpir": item.promised,
        "threshold": round(item.threshold, 5),
        "measured_fpir": item.fpir.value,
        "measured_fpir_interval": _interval(item.fpir),
        "passed": item.fpir.errors,
        "strangers": item.fpir.trials,
        "fnir": item.fnir.value,
        "fnir_interval": _interval(item.fnir),
        "verdict": item.verdict,
        "door_fpir": item.door_fpir.value,
        "door_fnir": item.door_fnir.value,
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "rate": rate.value,
        "errors": rate.errors,
        "trials": rate.trials,
        "people": rate.trials if rate.clusters is None else rate.clusters,
        "interval": _interval(rate),
    }


def _interval(rate: Rate) -> list[float]:
    return [round(side, 6) for side in rate.interval]


def as_lines(report: AccuracyReport, min_margin: float) -> Iterator[str]:
    """The same for a person to read."""
    run = report.run
    yield f"enrolled   {len(run.templates.ids)} people; {_words(run.fte, 'could not be (FTE)')}"
    if run.short:
        yield f"           {run.short} of them with fewer pictures than asked"
    yield f"residents  {len(run.outcomes.mated)} probes; {_words(run.fta, 'refused (FTA)')}"
    yield f"strangers  {len(run.outcomes.strange)}; {_of(run.stranger_fta)} refused, so kept out"
    if run.reasons:
        why = ", ".join(f"{reason} {count}" for reason, count in run.reasons.most_common())
        yield f"refused    pictures: {why}"
    yield ""
    yield "At the threshold these strangers themselves give:"
    yield "  FPIR      threshold  FNIR     missed        95% interval       FNIR with FTA"
    for item in report.results:
        whole = fnir_with_fta(item.fnir, run.fta)
        yield (
            f"  {percent(item.asked):8}  {item.threshold:9.4f}  {percent(item.fnir.value):7}  "
            f"{_of(item.fnir):12}  {_between(item.fnir):17}  {percent(whole)}"
        )
    yield ""
    yield "At the calibrated threshold, set without these strangers:"
    yield "  promised  threshold  FPIR     passed        95% interval       FNIR"
    for at in report.calibrated:
        yield (
            f"  {percent(at.promised):8}  {at.threshold:9.4f}  {percent(at.fpir.value):7}  "
            f"{_of(at.fpir):12}  {_between(at.fpir):17}  {percent(at.fnir.value)} {_of(at.fnir)}"
        )
    for at in report.calibrated:
        yield f"  {percent(at.promised)}: {at.verdict}"
    for at in report.calibrated:
        yield (
            f"  {percent(at.promised)}, and a margin of {min_margin:g}, as the door asks: "
            f"FPIR {percent(at.door_fpir.value)}, FNIR {percent(at.door_fnir.value)}"
        )
    residents = len(set(run.outcomes.mated_people))
    yield ""
    yield f"95% intervals of FNIR and FTA: by {residents} residents, whose own visits resemble each"
    yield "other (Korn and Graubard); of FTE and FPIR: exact, a trial a person (Clopper, Pearson)"
    if report.groups:
        yield ""
        yield "By group, at the calibrated thresholds (FNIR, then FPIR, 95% intervals):"
        width = max(len(item.group) for item in report.groups)
        for item_of in report.groups:
            for at, fnir, fpir in zip(report.calibrated, item_of.fnir, item_of.fpir, strict=True):
                yield (
                    f"  {item_of.group:{width}}  {percent(at.promised):6}  "
                    f"{percent(fnir.value):7} {_of(fnir):12} {_between(fnir):17}  "
                    f"{percent(fpir.value):7} {_of(fpir):12} {_between(fpir)}"
                )


def percent(share: float) -> str:
    """A share in percent, with as many digits as mean something."""
    value = 100 * share
    return f"{value:.3g}%" if value < 0.1 else f"{value:.2f}%"


def _of(rate: Rate) -> str:
    return f"{rate.errors} of {rate.trials}"


def _words(rate: Rate, what: str) -> str:
    return f"{_of(rate)} {what}, 95% {_between(rate)}"


def _between(rate: Rate) -> str:
    low, high = rate.interval
    return f"{percent(low)} to {percent(high)}"
