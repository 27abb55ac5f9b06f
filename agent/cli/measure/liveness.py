"""``kaopass liveness``: is this face alive; set a camera's threshold; measure on known pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.base.errors import CameraError, UsageError
from agent.cli.common import json_option, operator, print_json, settings_option
from agent.cli.measure.liveness_input import files_under, kinds_under, paths_type, settings_of
from agent.cli.measure.liveness_measure import measure, rate_json, rate_text

MOST_NAMED = 5  # files in one message


@click.group("liveness")
def command() -> None:
    """Tell faces from photographs and screens of them, and say how well that works."""


command.add_command(measure)


@command.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=paths_type)
@settings_option
@json_option
def check(files: tuple[Path, ...], settings_file: Path | None, as_json: bool) -> None:
    """Judge every face of each FILE, a picture or a clip; one line a file.

    The score is 0 to 1; a live face reaches the threshold, 0.5 unless this camera was calibrated.
    A crop without surroundings works too, if less well: its edges are repeated outwards.
    The exit code is 1 if a file could not be read, 0 whatever was found.
    """
    from agent.wiring.devices import enrolment_frames, must_exist
    from agent.wiring.parts import liveness_threshold, open_examiner

    must_exist(map(str, files))
    settings = settings_of(settings_file)
    examiner, threshold = open_examiner(settings), liveness_threshold(settings)
    failed = False
    for file in files:
        line: dict[str, Any] = {"file": str(file), "faces": []}
        try:
            found = examiner.check(
                enrolment_frames(str(file)),
                threshold=threshold,
                min_frames=settings.decision.min_frames,
                lost_ms=round(settings.vision.lost_seconds * 1000),
            )
        except CameraError as error:
            failed = True
            line["error"] = str(error)
        else:
            line["faces"] = [
                {
                    "live": item.verdict.live,
                    "score": round(item.verdict.score, 6),
                    "reason": item.verdict.reason,
                    "views": item.views,
                    "box": [round(side, 1) for side in item.box],
                }
                for item in found
            ]
        if as_json:
            print_json(line)
        else:
            click.echo(_sentence(line))
    if failed:
        raise click.exceptions.Exit(1)


@command.command("calibrate")
@click.argument("live", nargs=-1, metavar="[LIVE...]", type=paths_type)
@click.option(
    "--camera",
    "camera_seconds",
    type=click.FloatRange(1.0, 3600.0),
    metavar="SECONDS",
    help="Watch this device's own camera for so long; nothing is recorded.",
)
@click.option(
    "--attacks",
    type=paths_type,
    help="Folder of attacks on this camera; each subfolder is a kind.",
)
@click.option(
    "--bpcer",
    type=click.FloatRange(0.0, 0.5),
    default=0.05,
    show_default=True,
    help="Share of live people who may be refused.",
)
@click.option("--dry-run", is_flag=True, help="Say what was found, and keep nothing.")
@settings_option
@json_option
def calibrate(
    live: tuple[Path, ...],
    camera_seconds: float | None,
    attacks: Path | None,
    bpcer: float,
    dry_run: bool,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Set this camera's threshold from live faces: before the camera, or in LIVE, files or folders.

    Let at least 5 people, better 30, stand where passengers do, in the door's own light, one after
    another; whoever comes back counts again. Of files, pictures whose names differ in the last
    number are one sequence; one in which no face is found is left out, and said. A threshold at
    which too many photographs would pass is refused. It is kept in liveness.json in the state
    directory. A running agent must be stopped while its camera is needed here, and takes the
    threshold up when it starts. None of the pictures is kept.
    """
    from agent.accuracy.presentation import apcer
    from agent.accuracy.presentation import bpcer as refused_at
    from agent.usecases.liveness import calibrate_camera, camera_scores, live_scores
    from agent.vision.liveness import DEFAULT_THRESHOLD
    from agent.wiring.desk import LocalDesk
    from agent.wiring.devices import enrolment_frames, open_camera
    from agent.wiring.parts import open_examiner

    if not live and camera_seconds is None:
        raise UsageError("show live faces to the camera, with --camera SECONDS, or give LIVE files")
    settings = settings_of(settings_file)
    examiner = open_examiner(settings)
    files = [file for given in live for file in files_under(given)]
    good, no_face = live_scores(examiner, files, enrolment_frames)
    if no_face:
        # Said even where what is left turns out to be too little.
        named = ", ".join(no_face[:MOST_NAMED]) + (", ..." if len(no_face) > MOST_NAMED else "")
        click.echo(
            f"left out: in {len(no_face)} of {len(good) + len(no_face)} no face was found: {named}",
            err=True,
        )
    if camera_seconds is not None:
        good |= camera_scores(
            examiner,
            open_camera(settings.camera, examiner.detector),
            camera_seconds,
            min_frames=settings.decision.min_frames,
            lost_ms=round(settings.vision.lost_seconds * 1000),
        )
    done = calibrate_camera(
        examiner,
        list(good.values()),
        kinds_under(attacks) if attacks else {},
        enrolment_frames,
        pack=settings.liveness.pack,
        bpcer=bpcer,
        file=None if dry_run else settings.liveness_file,
        audit=None if dry_run else LocalDesk(settings).audit,
        actor=operator(),
    )
    found = done.chosen
    refused = refused_at([[score] for score in good.values()], found.threshold)
    kinds = {
        kind: apcer([[score] for score in scores], found.threshold)
        for kind, scores in done.attacks.items()
    }
    if as_json:
        print_json(
            {
                "threshold": found.threshold,
                "bpcer": rate_json(refused),
                "no_face": list(no_face),
                "apcer": {kind: rate_json(passed) for kind, passed in kinds.items()},
                "written": None if dry_run else str(settings.liveness_file),
            }
        )
        return
    click.echo(f"threshold {found.threshold:.4f}; of live people refused: {rate_text(refused)}")
    for kind, passed in kinds.items():
        click.echo(f"  {kind}: passed {rate_text(passed)}")
    if found.threshold < DEFAULT_THRESHOLD and not kinds:
        click.echo(
            f"This is laxer than the pack's own {DEFAULT_THRESHOLD}. Hold photographs and a phone "
            "before the camera, and give them with --attacks, to see what it lets through."
        )
    click.echo("nothing kept" if dry_run else f"kept in {settings.liveness_file}")


def _sentence(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"{line['file']}: {line['error'].removeprefix(line['file'] + ': ')}"
    said = [f"{face['reason']} ({face['score']:.3f})" for face in line["faces"]]
    return f"{line['file']}: {', '.join(said) or 'no face'}"
