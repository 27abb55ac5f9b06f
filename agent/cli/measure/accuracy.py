"""``kaopass accuracy``: how well this device's own path recognises a folder of people."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import UsageError
from agent.cli.common import json_option, print_json, settings_option
from agent.settings.model import Settings, load

if TYPE_CHECKING:
    from agent.accuracy.reading import Eyes, PictureView
    from agent.packs.manifest import Pack


@click.command("accuracy")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--gallery-size", type=click.IntRange(1), help="People enrolled; default: all.")
@click.option(
    "--enroll-images",
    type=click.IntRange(1, 50),
    default=3,
    show_default=True,
    help="Pictures each is enrolled with: their first ones.",
)
@click.option(
    "--probe-frames",
    type=click.IntRange(1, 50),
    default=1,
    show_default=True,
    help="Pictures fused into one decision; groups share none.",
)
@click.option(
    "--probes-from",
    type=click.IntRange(2),
    metavar="NUMBER",
    help="First picture that comes as a probe; default: the next after enrolment's.",
)
@click.option(
    "--fpir",
    "fpirs",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    multiple=True,
    help="Promise to judge by; may be repeated. Default: 0.01, 0.001.",
)
@click.option(
    "--groups",
    "groups_file",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Lines of person,group: report each group by itself.",
)
@click.option(
    "--plots",
    "plots_folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the DET curve and the score histogram there as PNG.",
)
@click.option("--seed", type=int, help="Draw the people to enrol by chance, repeatably.")
@click.option(
    "--measure-pack",
    is_flag=True,
    help="Print the model pack's figures for models/manifest.toml instead.",
)
@settings_option
@json_option
def command(
    folder: Path,
    gallery_size: int | None,
    enroll_images: int,
    probe_frames: int,
    probes_from: int | None,
    fpirs: tuple[float, ...],
    groups_file: Path | None,
    plots_folder: Path | None,
    seed: int | None,
    measure_pack: bool,
    settings_file: Path | None,
    as_json: bool,
) -> None:
    """Measure FTE, FTA, FNIR and FPIR on DIR: one folder a person, with their pictures in it.

    People with two or more pictures are enrolled, those with most first, with their first
    pictures; their later ones come as probes. People with one picture are the strangers. The
    face meant in a picture is the largest and most central one. Everything runs through the
    door's own networks, quality gate, templates and search; the calibrated threshold comes from
    the model pack's figures, which have not seen these strangers. Nothing of the pictures is kept.
    """
    from agent.accuracy.protocol import plan, read_folder

    if plots_folder is not None and find_spec("matplotlib") is None:
        raise UsageError("--plots needs matplotlib; run: pip install 'kaopass[lab]'")
    overrides = {"models": {"licence": "research"}} if settings_file is None else {}
    settings = load(settings_file, overrides)
    groups = None if groups_file is None else read_groups(groups_file)
    people = read_folder(folder)
    if measure_pack:
        _print_pack_figures(folder, people, settings)
        return
    trial = plan(
        people,
        gallery_size=gallery_size,
        enroll_images=enroll_images,
        probe_frames=probe_frames,
        first_probe=probes_from,
        seed=seed,
    )
    from agent.accuracy.report import as_json as report_values
    from agent.accuracy.report import as_lines, assess
    from agent.accuracy.trial import play
    from agent.recognition.rules import pack_calibration, rule_for

    pack = _pack(settings)
    views = _read(
        settings,
        probes=[p for probe in (*trial.probes, *trial.strangers) for p in probe.pictures],
        references=[p for person in trial.enrolled for p in person.pictures],
    )
    run = play(trial, views)
    calibration = pack_calibration(pack)
    promises = []
    for fpir in fpirs or (0.01, 0.001):
        # A stranger comes with one picture here, whatever residents come with.
        rule = rule_for(
            settings.decision.model_copy(update={"fpir": fpir}),
            calibration,
            run.templates,
            images=enroll_images,
            looks=1,
        )
        promises.append((fpir, rule.threshold))
    report = assess(run, promises, settings.decision.min_margin, groups)
    if plots_folder is not None:
        from agent.accuracy.plots import draw

        title = (
            f"{pack.name}: {len(run.templates.ids)} enrolled with {enroll_images} picture(s), "
            f"{probe_frames} a probe"
        )
        draw(report, plots_folder, title)
    if as_json:
        asked = {
            "pack": pack.name,
            "gallery_size": len(trial.enrolled),
            "enroll_images": enroll_images,
            "probe_frames": probe_frames,
        }
        print_json({**report_values(report), **asked})
        return
    for line in as_lines(report, settings.decision.min_margin):
        click.echo(line)


def read_groups(path: Path) -> dict[str, str]:
    """Person to group, from lines of person,group. Raises UsageError."""
    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.reader(stream), start=1):
                if not row:
                    continue
                if len(row) != 2 or not row[0].strip() or not row[1].strip():
                    raise UsageError(f"--groups {path}, line {number}: must be person,group")
                found[row[0].strip()] = row[1].strip()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--groups {path}: cannot be read: {error}") from error
    return found


def _print_pack_figures(folder: Path, people: list[Any], settings: Settings) -> None:
    from agent.accuracy.packfigures import pack_figures

    pack = _pack(settings)
    several = [person for person in people if len(person.pictures) > 1]
    pictures = [path for person in several for path in person.pictures]
    views = _read(settings, probes=pictures, references=pictures)
    source = f"{folder.resolve().name}: its people with two or more pictures"
    click.echo(pack_figures(several, views).toml(pack.name, source))


def _pack(settings: Settings) -> Pack:
    from agent.packs.store import locate

    models = settings.models
    return locate(models.pack, settings.models_directory, models.licence).pack


def _read(
    settings: Settings, probes: list[Path], references: list[Path]
) -> dict[Path, PictureView]:
    from agent.accuracy.reading import Eyes, read_views
    from agent.hw.cameras.shared.pictures import read_picture
    from agent.wiring.parts import open_networks, quality_gate

    # Pictures side by side use the cores better than one network with several threads.
    single = settings.models.model_copy(update={"threads": 1})
    alone = settings.model_copy(update={"models": single})
    judge = quality_gate(settings).judge

    def open_eyes() -> Eyes:
        networks = open_networks(alone)
        return Eyes(networks.detector, networks.embedder, judge)

    with _progress(len({*probes, *references})) as done:
        return read_views(
            probes, references, read_picture, open_eyes, workers=settings.models.threads, done=done
        )


@contextmanager
def _progress(length: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal's standard error, nothing elsewhere."""
    bar = click.progressbar(
        length=length, label="pictures", file=sys.stderr, hidden=not sys.stderr.isatty()
    )
    with bar:
        yield lambda: bar.update(1)
