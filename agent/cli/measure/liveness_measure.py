"""``kaopass liveness measure``: APCER by kind of attack, BPCER and EER on known pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.accuracy.presentation import apcer, bpcer, eer, eer_interval
from agent.base.errors import UsageError
from agent.cli.common import json_option, print_json, settings_option
from agent.cli.measure.liveness_input import (
    files_under,
    kinds_under,
    paths_type,
    settings_of,
)

if TYPE_CHECKING:
    from agent.accuracy.rates import Rate
    from agent.base.ports import LivenessModel
    from agent.base.values import Face, Image, Vector
    from agent.vision.examine import Examiner, View

LIVE = "live"
MOST = 60  # photographs that attacks are drawn from


@dataclass(frozen=True, slots=True)
class _Kind:
    """The scores of one kind of presentation. A sequence without any face scores 0: refused."""

    images: list[list[float]]  # of each presentation
    sequences: list[list[float]]  # the one score of each
    no_face: int

    @classmethod
    def of(cls, found: dict[str, list[View]]) -> _Kind:
        from agent.vision.examine import sequence_score

        return cls(
            [[view.score for view in views] for views in found.values()],
            [[sequence_score(views) if views else 0.0] for views in found.values()],
            sum(not views for views in found.values()),
        )


class _Timed:
    """A ports.LivenessModel that says how long it took."""

    def __init__(self, model: LivenessModel) -> None:
        self._model = model
        self._seconds = 0.0
        self._faces = 0

    @property
    def pack(self) -> str:
        return self._model.pack

    @property
    def ms_per_face(self) -> float:
        return round(1000 * self._seconds / max(self._faces, 1), 1)

    def log_odds(self, image: Image, faces: Sequence[Face]) -> Vector:
        begun = time.perf_counter()
        found = self._model.log_odds(image, faces)
        self._seconds += time.perf_counter() - begun
        self._faces += len(faces)
        return found


@click.command("measure")
@click.argument("directory", required=False, type=paths_type)
@click.option(
    "--synthetic",
    is_flag=True,
    help="Also attacks drawn in memory from the pictures that installed packages carry.",
)
@click.option(
    "--faces",
    "faces_folder",
    type=paths_type,
    metavar="DIR",
    help="Draw the attacks from the photographs in DIR instead, at most 60 of them.",
)
@click.option(
    "--threshold", type=click.FloatRange(0.0, 1.0), help="Instead of the device's own threshold."
)
@settings_option
@json_option
def measure(
    directory: Path | None,
    synthetic: bool,
    faces_folder: Path | None,
    threshold: float | None,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Measure on DIRECTORY: subfolder "live", and one subfolder for each kind of attack.

    Pictures whose names differ in the last number are one sequence; a clip is one. Figures are
    those of ISO/IEC 30107-3 with 95% intervals, an image and a sequence; what shows no face counts
    as refused. Images of one sequence are near copies, so their interval goes by sequences; that
    of sequences is exact if each is of another person. Synthetic attacks are drawings of attacks:
    they say little about real printers and screens.
    """
    from agent.usecases.liveness import sequences
    from agent.wiring.devices import enrolment_frames
    from agent.wiring.parts import liveness_threshold, open_examiner, open_liveness

    synthetic = synthetic or faces_folder is not None
    if directory is None and not synthetic:
        raise UsageError("give a DIRECTORY, --synthetic, or both")
    settings = settings_of(settings_file)
    timed = _Timed(open_liveness(settings))
    examiner = open_examiner(settings, timed)
    limit = liveness_threshold(settings) if threshold is None else threshold
    found: dict[str, _Kind] = {}
    if directory is not None:
        given = kinds_under(directory)
        if LIVE not in given:
            raise UsageError(f'{directory}: has no subfolder "{LIVE}" with live faces')
        found = {
            kind: _Kind.of(sequences(examiner, files, enrolment_frames))
            for kind, files in given.items()
        }
    if synthetic:
        found |= _synthetic(examiner, faces_folder, with_live=directory is None)
    report = _report(found, limit) | {"ms_per_face": timed.ms_per_face}
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
        "presentations": rate.trials if rate.clusters is None else rate.clusters,
        "interval": [round(low, 5), round(high, 5)],
    }


def rate_text(rate: Rate) -> str:
    """A rate as people read it."""
    low, high = rate.interval
    of = "" if rate.clusters is None else f", of {rate.clusters} presentations"
    return f"{rate.value:6.1%} ({rate.errors} of {rate.trials}{of}; 95%: {low:.1%} to {high:.1%})"


def _synthetic(
    examiner: Examiner, faces_folder: Path | None, *, with_live: bool
) -> dict[str, _Kind]:
    from agent.hw.cameras.shared.pictures import read_picture
    from agent.sim.attacks import KINDS, attack_clip, subjects, subjects_in

    if faces_folder is None:
        people = subjects(examiner.detector)
    else:
        files = files_under(faces_folder)
        people = subjects_in(examiner.detector, map(read_picture, files[:: -(-len(files) // MOST)]))
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
    good = {"image": live.images, "sequence": live.sequences}
    bad = {
        "image": [scores for kind in attacks for scores in kind.images],
        "sequence": [scores for kind in attacks for scores in kind.sequences],
    }
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
        "eer": {what: _eer(good[what], bad[what]) for what in good},
        "eer_interval": {what: _interval(good[what], bad[what]) for what in good},
    }


def _eer(good: list[list[float]], bad: list[list[float]]) -> float | None:
    value = eer(*([score for views in kind for score in views] for kind in (good, bad)))
    return None if value is None else round(value, 5)


def _interval(good: list[list[float]], bad: list[list[float]]) -> list[float] | None:
    found = eer_interval(good, bad)
    return None if found is None else [round(side, 5) for side in found]


def _print_table(found: dict[str, _Kind], limit: float, report: dict[str, Any]) -> None:
    live = found[LIVE]
    click.echo(f"threshold {limit:.3f}; the network takes {report['ms_per_face']} ms a face")
    click.echo(f"BPCER, live refused     an image {rate_text(bpcer(live.images, limit))}")
    click.echo(f"{'':23} a sequence {rate_text(bpcer(live.sequences, limit))}")
    for name, kind in found.items():
        if name != LIVE:
            click.echo(f"APCER, {name:16} an image {rate_text(apcer(kind.images, limit))}")
            click.echo(f"{'':23} a sequence {rate_text(apcer(kind.sequences, limit))}")
    click.echo("95% intervals: a sequence exact; an image by sequences, as theirs are near copies")
    for what, value in report["eer"].items():
        if value is not None:
            low, high = report["eer_interval"][what]
            click.echo(
                f"EER a{'n' if what == 'image' else ''} {what}: {value:.1%} "
                f"(95%: {low:.1%} to {high:.1%})"
            )
