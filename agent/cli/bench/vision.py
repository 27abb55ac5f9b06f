"""``kaopass bench vision``: a frame through the whole line, beside the bare model calls for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from agent.bench.board import SCENE_SECONDS, bench_settings
from agent.bench.vision import measure
from agent.cli.bench.notes import load_warning
from agent.cli.common import json_option, print_json, settings_option


@click.command("vision")
@settings_option
@click.option(
    "--seconds",
    type=click.FloatRange(1, 60),
    default=SCENE_SECONDS,
    show_default=True,
    help="Length of the scene to run.",
)
@json_option
def command(settings_file: Path | None, seconds: float, as_json: bool) -> None:
    """Time a frame of the scene through the whole line, beside the bare model calls for it."""
    settings = bench_settings(settings_file)
    found = measure(settings, seconds)
    if as_json:
        print_json({"bench": "vision", **asdict(found)})
        return
    models = settings.models
    click.echo(
        f"this board: {found.frames_per_second:.0f} frames a second, decision in "
        f"{found.decision_seconds:.1f} s, gallery up to {found.gallery_up_to:,}"
    )
    click.echo(
        f"  with {models.pack}, detector input {models.detector_input_pixels} pixels, "
        f"{models.threads} threads"
    )
    click.echo(
        f"  a frame          {found.ms_per_frame:7.1f} ms   (95% within "
        f"{found.ms_per_frame_p95:.1f} ms; {found.frames} frames, {found.embeddings} faces)"
    )
    click.echo(f"  its model calls  {found.ms_bare:7.1f} ms")
    click.echo(
        f"  ratio            {found.ratio:7.2f}      (where faces are embedded "
        f"{found.ratio_with_faces:.2f}; promised: at most 1.25)"
    )
    click.echo(load_warning(found.board), nl=False)
