"""``kaopass liveness measure``: APCER by kind of attack, BPCER and EER on known pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.accuracy.presentation import apcer, bpcer, eer
from agent.cli.common import json_option, print_json, settings_option
from agent.cli.liveness_input import (
    kinds_under,
    open_examiner,
    paths_type,
    sequences,
    settings_of,
)
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.accuracy.rates import Rate
    from agent.examine import Examiner, View

LIVE = "live"


@dataclass(frozen=True, slots=True)
class _Kind:
    """The scores of one kind of presentation. A sequence without any face scores 0: refused."""

    images: list[float]
    sequences: list[float]
    no_face: int

    @classmethod
    def of(cls, found: dict[str, list[View]]) -> _Kind:
        from agent.examine import sequence_score

        return cls(
            [view.score for views in found.values() for view in views],
            [sequence_score(views) if views else 0.0 for views in found.values()],
            sum(not views for views in found.values()),
        )


@click.command("measure")
@click.argument("directory", required=False, type=paths_type)
@click.option(
    "--synthetic",
    is_flag=True,
    help="Also attacks drawn in memory from the pictures that installed packages carry.",
)
@click.option(
    "--threshold", type=click.FloatRange(0.0, 1.0), help="Instead of the device's own threshold."
)
@settings_option
@json_option
def measure(
    directory: Path | None,
    synthetic: bool,
    threshold: float | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Measure on DIRECTORY: subfolder "live", and one subfolder for each kind of attack.

    Pictures whose names differ in the last number are one sequence; a clip is one. Figures are
    those of ISO/IEC 30107-3 with 95% intervals, an image and a sequence; what shows no face counts
    as refused. Synthetic attacks are drawings of attacks: they say little about real printers and
    screens.
    """
    from agent.parts import liveness_threshold

    if directory is None and not synthetic:
        raise UsageError("give a DIRECTORY, --synthetic, or both")
    settings = settings_of(settings_file)
    examiner = open_examiner(settings)
    limit = liveness_threshold(settings) if threshold is None else threshold
    found: dict[str, _Kind] = {}
    begun = time.perf_counter()
    if directory is not None:
        given = kinds_under(directory)
        if LIVE not in given:
            raise UsageError(f'{directory}: has no subfolder "{LIVE}" with live faces')
        found = {kind: _Kind.of(sequences(examiner, files)) for kind, files in given.items()}
    if synthetic:
        found |= _synthetic(examiner, with_live=directory is None)
    seconds = time.perf_counter() - begun
    images = sum(len(kind.images) for kind in found.values())
    report = _report(found, limit) | {"ms_per_image": round(1000 * seconds / max(images, 1), 1)}
    if as_json:
        print_json(report)
    else:
        _print_table(found, limit, report)


def rate_json(rate: Rate) -> dict[str, Any]:
    """A rate as programs read it."""
    low, high = rate.interval
    return {
        "rate": round(rate.value, 5),
        "errors": rate.errors,
        "trials": rate.trials,
        "interval": [round(low, 5), round(high, 5)],
    }


def rate_text(rate: Rate) -> str:
    """A rate as people read it."""
    low, high = rate.interval
    return f"{rate.value:6.1%} ({rate.errors} of {rate.trials}; 95%: {low:.1%} to {high:.1%})"


def _synthetic(examiner: Examiner, *, with_live: bool) -> dict[str, _Kind]:
    from agent.hw.attacks import KINDS, attack_clip, subjects

    people = subjects(examiner.detector)
    found: dict[str, dict[str, list[View]]] = {f"synthetic {kind}": {} for kind in KINDS}
    for number, person in enumerate(people):
        other = people[(number + 1) % len(people)]
        for kind in KINDS:
            clip = list(attack_clip(kind, person, other=other, frames=9, seed=number))
            found[f"synthetic {kind}"][str(number)] = examiner.views(clip[::3])
    if with_live:
        found[LIVE] = {
            str(number): [examiner.view(person.photograph, person.face)]
            for number, person in enumerate(people)
        }
    return {kind: _Kind.of(clips) for kind, clips in found.items()}


def _report(found: dict[str, _Kind], limit: float) -> dict[str, Any]:
    live = found[LIVE]
    attacks = [kind for name, kind in found.items() if name != LIVE]
    of_images = eer(live.images, [score for kind in attacks for score in kind.images])
    of_sequences = eer(live.sequences, [score for kind in attacks for score in kind.sequences])
    return {
        "threshold": limit,
        "bpcer": {
            "image": rate_json(bpcer(live.images, limit)),
            "sequence": rate_json(bpcer(live.sequences, limit)),
            "no_face": live.no_face,
        },
        "apcer": {
            name: {
                "image": rate_json(apcer(kind.images, limit)),
                "sequence": rate_json(apcer(kind.sequences, limit)),
                "no_face": kind.no_face,
            }
            for name, kind in found.items()
            if name != LIVE
        },
        "eer": {"image": _rounded(of_images), "sequence": _rounded(of_sequences)},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _print_table(found: dict[str, _Kind], limit: float, report: dict[str, Any]) -> None:
    live = found[LIVE]
    click.echo(f"threshold {limit:.3f}; {report['ms_per_image']} ms an image, detection included")
    click.echo(f"BPCER, live refused     an image {rate_text(bpcer(live.images, limit))}")
    click.echo(f"{'':23} a sequence {rate_text(bpcer(live.sequences, limit))}")
    for name, kind in found.items():
        if name != LIVE:
            click.echo(f"APCER, {name:16} an image {rate_text(apcer(kind.images, limit))}")
            click.echo(f"{'':23} a sequence {rate_text(apcer(kind.sequences, limit))}")
    for what, value in report["eer"].items():
        if value is not None:
            click.echo(f"EER a{'n' if what == 'image' else ''} {what}: {value:.1%}")
