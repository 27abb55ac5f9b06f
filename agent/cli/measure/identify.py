"""``kaopass identify``: who is in a clip, a folder or a photograph, decision by decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.base.errors import GalleryError, UsageError
from agent.cli.common import (
    counted,
    id_and_file,
    json_option,
    print_json,
    settings_option,
)
from agent.settings.model import load

if TYPE_CHECKING:
    from agent.base.ports import Camera
    from agent.base.values import Decision, Frame, Vector
    from agent.door.recogniser import Step
    from agent.recognition.protection import Protection
    from agent.recognition.templates import TemplateSet
    from agent.settings.model import Settings
    from agent.wiring.parts import Networks


OTHERS_PICTURES = 3  # of each, as a resident is enrolled with


@click.command("identify")
@click.argument("source")
@click.option(
    "--gallery",
    "gallery_directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="State directory with gallery.db and its keys; default: the one of the settings.",
)
@click.option(
    "--enroll",
    "enrolments",
    metavar="ID=FILE",
    multiple=True,
    help="Enrol ID from a photograph or clip, in memory only; may be given several times.",
)
@click.option(
    "--others",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --enroll: enrol besides whoever has two pictures or more in this folder of people.",
)
@settings_option
@click.option(
    "--liveness",
    type=click.Choice(["on", "off"]),
    help="Refuse photographs and screens. Default: as set for a camera, off for files.",
)
@click.option("--sequence", is_flag=True, help="Take a folder's pictures as frames of one clip.")
@json_option
def command(
    source: str,
    gallery_directory: Path | None,
    enrolments: tuple[str, ...],
    others: Path | None,
    settings_file: Path | None,
    liveness: str | None,
    sequence: bool,
    as_json: bool,
) -> None:
    """Say who is seen in SOURCE: a video, a GIF, a photograph, a folder or a camera.

    Prints every decision and a summary. The models of the settings are used; without a settings
    file the default pack and its research licence are assumed, for trying things out. A file is
    not judged for liveness unless asked for: it is a picture of somebody already. Nothing is
    journalled, and nothing of the pictures is kept.
    """
    from agent.recognition.protection import Protection
    from agent.recognition.templates import TemplateSet
    from agent.wiring.devices import camera_overrides, is_live, must_exist, open_camera
    from agent.wiring.parts import door_networks, recogniser

    if gallery_directory is not None and enrolments:
        raise UsageError("give --gallery or --enroll, not both")
    if others is not None and not enrolments:
        raise UsageError("--others goes with --enroll: say who is to be recognised among them")
    given = camera_overrides(source, pace="fast")
    of_files = not is_live(given["kind"])
    mode = liveness or ("off" if of_files else None)
    settings = _settings(settings_file, gallery_directory, given, mode)
    people = [id_and_file(text) for text in enrolments]
    must_exist(file for _, file in people)
    # Opened before the networks: a wrong path should be told at once.
    camera = open_camera(settings.camera, still_folder=not sequence)
    camera.open()
    networks = door_networks(settings)
    if of_files and liveness is None:
        click.echo("liveness is not judged on files; with --liveness on it is", err=True)
    if people:
        networks = networks.protected(Protection.passing())
        known = _enrolled(settings, networks, people)
        if others is not None:
            known += _others(networks, others)
        templates, former = TemplateSet.build(known), None
    else:
        protection, templates, former = _from_gallery(settings)
        networks = networks.protected(protection)
    watcher = recogniser(settings, networks, templates, former)
    report = _Report(as_json, settings.liveness.mode)
    try:
        for frame in _frames(camera):
            step = watcher.process(frame)
            report.saw(step)
            for decision in step.decisions:
                report.add(decision)
    finally:
        camera.close()
    for decision in watcher.finish():
        report.add(decision)
    report.finish()


def _settings(
    settings_file: Path | None,
    gallery_directory: Path | None,
    camera: dict[str, str],
    liveness: str | None,
) -> Settings:
    overrides: dict[str, dict[str, Any]] = {"camera": camera}
    if liveness is not None:
        overrides["liveness"] = {"mode": liveness}
    if settings_file is None:
        overrides["models"] = {"licence": "research"}
    if gallery_directory is not None:
        overrides["state"] = {"directory": gallery_directory}
        # Another state directory is about whom to know, not about where networks are.
        if not (gallery_directory / "models").is_dir():
            models = overrides.setdefault("models", {})
            models["directory"] = load(settings_file).models_directory
    return load(settings_file, overrides)


class _Report:
    """Prints decisions as they come, and sums them up."""

    def __init__(self, as_json: bool, liveness: str) -> None:
        self._as_json = as_json
        self._liveness = liveness
        self._frames = 0
        self._tracks: set[int] = set()
        self._large_ms: dict[int, int] = {}  # when a track's face was first large enough
        self._first: dict[str, dict[str, int]] = {}
        self._people: Counter[str] = Counter()
        self._others: Counter[str] = Counter()

    def saw(self, step: Step) -> None:
        self._frames += 1
        for seen in step.tracks.seen:
            self._tracks.add(seen.track)
            if seen.quality.reason != "too_small":
                self._large_ms.setdefault(seen.track, step.tracks.frame.t_ms)

    def add(self, decision: Decision) -> None:
        if decision.person is not None:
            self._people[decision.person] += 1
            since_ms = decision.t_ms - self._large_ms[decision.track]
            self._first.setdefault(decision.person, {"frame": decision.frame, "ms": since_ms})
        else:
            self._others[decision.outcome.value] += 1
        line = {
            "t_ms": decision.t_ms,
            "frame": decision.frame,
            "track": decision.track,
            "box": [round(side, 1) for side in decision.box],
            "person": decision.person,
            "score": round(decision.score, 4),
            "decision": decision.outcome.value,
            "reason": decision.reason,
        }
        if self._as_json:
            print_json(line)
            return
        who = decision.person or "-"
        click.echo(
            f"{decision.t_ms / 1000:7.2f} s  track {decision.track:<3} {decision.outcome.value:8} "
            f"{who:16} {decision.score:5.2f}  {decision.reason}"
        )

    def finish(self) -> None:
        summary = {
            "frames": self._frames,
            "tracks": len(self._tracks),
            "people": dict(self._people),
            "first": self._first,
            "unknown": self._others["unknown"],
            "rejected": self._others["rejected"],
            "liveness": self._liveness,
        }
        if self._as_json:
            print_json({"summary": summary})
            return
        named = ", ".join(f"{who} ({count})" for who, count in self._people.items()) or "nobody"
        seen = f"{counted(self._frames, 'frame')}, {counted(len(self._tracks), 'track')}"
        click.echo(
            f"{seen}; named: {named}; decisions for nobody: {self._others['unknown']}, rejected: "
            f"{self._others['rejected']}"
        )
        for who, at in self._first.items():
            click.echo(
                f"  {who}: first on frame {at['frame']}, {at['ms']} ms after the face was first "
                "large enough"
            )


def _frames(camera: Camera) -> Iterator[Frame]:
    while (frame := camera.read()) is not None:
        yield frame


def _enrolled(
    settings: Settings, networks: Networks, people: list[tuple[str, str]]
) -> list[tuple[str, Vector]]:
    from agent.wiring.devices import enrolment_frames
    from agent.wiring.parts import enroller

    enrol = enroller(settings, networks, min_images=1)
    by_person: dict[str, list[str]] = {}
    for person, file in people:
        by_person.setdefault(person, []).append(file)
    return [
        (person, enrol.enrol((file, enrolment_frames(file)) for file in files).templates)
        for person, files in by_person.items()
    ]


def _others(networks: Networks, folder: Path) -> list[tuple[str, Vector]]:
    """The people of *folder*, without the quality gate: each is somebody to be taken for."""
    import numpy as np

    from agent.accuracy.protocol import read_folder
    from agent.accuracy.reading import main_face
    from agent.hw.cameras.shared.pictures import read_picture
    from agent.recognition.fusion import template

    found = []
    for person in read_folder(folder):
        rows = []
        for path in person.pictures[:OTHERS_PICTURES]:
            image = read_picture(path)
            face = main_face(image, networks.detector.detect(image))
            if face is not None and len(person.pictures) > 1:
                rows.append(networks.embedder.embed_reference(image, [face])[0])
        if rows:
            found.append((person.name, template(np.stack(rows), [1.0] * len(rows))[np.newaxis]))
    return found


def _from_gallery(settings: Settings) -> tuple[Protection, TemplateSet, TemplateSet | None]:
    from agent.gallery.gallery import Gallery
    from agent.wiring.desk import open_ring

    path = settings.state_directory / "gallery.db"
    if not path.exists():
        raise GalleryError(
            f"there is no gallery at {path}: give --gallery DIR, or --enroll ID=FILE to compare "
            "with somebody"
        )
    models = settings.models
    with Gallery(path, open_ring(settings), models.pack) as gallery:
        former = gallery.load(models.former) if models.former else None
        return gallery.protection, gallery.load(), former
