"""An 8-bit variant of a model pack, and what it costs and saves here.

A variant is a pack of its own, ``buffalo_s-int8``: its templates are compared with no other's. It
can be chosen only when its loss was measured on a folder of people, which is then kept with it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.accuracy.packfigures import pack_figures
from agent.accuracy.protocol import Evaluation, plan, read_folder
from agent.accuracy.reading import Eyes, PictureView, read_views
from agent.accuracy.trial import play
from agent.base.errors import CameraError, UsageError
from agent.base.values import Image
from agent.bench.board import percentile
from agent.bench.vision import Tapped
from agent.hw.cameras.shared.pictures import read_picture
from agent.hw.models.networks.onnx import open_session
from agent.lab.golden import golden_values
from agent.lab.quantize import to_int8
from agent.packs.manifest import ImpostorTail, ModelFile, Pack
from agent.packs.store import LOCAL, InstalledPack, locate, sha256_of
from agent.settings.model import Settings
from agent.sim.photographs import picture, picture_names
from agent.wiring.parts import Networks, pack_networks, quality_gate

SUFFIX = "-int8"
ROUNDS = 15
FPIRS = (0.01, 0.001)
Call = tuple[list[str], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Network:
    """One network beside its variant: sizes, median milliseconds a run on one thread, and the
    least and median cosine of the outputs for the same input."""

    role: str
    megabytes: float
    megabytes_int8: float
    ms: float
    ms_int8: float
    ratio: float
    least_cosine: float
    median_cosine: float


def images_of(folder: Path | None) -> Iterator[Image]:
    """The pictures of *folder* and its folders, or those that installed packages carry."""
    if folder is None:
        yield from (read_picture(picture(name)) for name in picture_names())
        return
    for path in sorted(p for p in folder.rglob("*") if p.is_file())[:500]:
        try:
            yield read_picture(path)
        except CameraError:
            continue  # whatever else lies there


def calls_of(settings: Settings, installed: InstalledPack, images: Iterator[Image]) -> Any:
    """What each file of the pack is asked to run when *images* are enrolled, by path."""
    noted: dict[Path, list[Call]] = defaultdict(list)

    def opener(path: Path, threads: int, provider: str) -> Tapped:
        session = open_session(path, threads, provider)
        return Tapped(session, _Notes(noted[path]))  # type: ignore[arg-type]  # takes append alone

    networks, judge = pack_networks(settings, installed, opener), quality_gate(settings).judge
    for image in images:
        faces = [f for f in networks.detector.detect(image) if judge(image, f).usable]
        networks.embedder.embed_reference(image, faces)
    return noted


class _Notes:
    """Keeps the inputs of calls, copied: an adapter may fill the same buffer again."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    def append(self, call: tuple[Any, list[str], dict[str, Any]]) -> None:
        _, names, feed = call
        self._calls.append((names, {name: np.array(value) for name, value in feed.items()}))


def compared(role: str, source: Path, target: Path, calls: Sequence[Call]) -> Network:
    """Both on the same inputs in turn, so that other load meets both alike."""
    whole, light = (open_session(path, 1, "cpu") for path in (source, target))
    times: tuple[list[float], list[float]] = ([], [])
    cosines = []
    for number in range(max(ROUNDS, len(calls)) + 2):
        names, feed = calls[number % len(calls)]
        outputs = []
        for session, taken in zip((whole, light), times, strict=True):
            begun = time.perf_counter()
            outputs.append(np.concatenate([o.ravel() for o in session.run(names, feed)]))
            if number >= 2:
                taken.append((time.perf_counter() - begun) * 1000)
        a, b = (out.astype(np.float64) for out in outputs)
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        cosines.append(float(a @ b) / max(lengths, 1e-12))
    return Network(
        role=role,
        megabytes=round(source.stat().st_size / 1e6, 2),
        megabytes_int8=round(target.stat().st_size / 1e6, 2),
        ms=round(percentile(times[0], 50), 2),
        ms_int8=round(percentile(times[1], 50), 2),
        ratio=round(percentile((np.array(times[1]) / np.array(times[0])).tolist(), 50), 2),
        least_cosine=round(min(cosines), 4),
        median_cosine=round(float(np.median(cosines)), 4),
    )


def variant_of(pack: Pack, folder: Path, made: dict[str, Path]) -> InstalledPack:
    """The pack that *made*, a file for each role in *folder*, makes; not measured yet."""
    files = tuple(_file(file, made[file.role]) for file in pack.files if file.role in made)
    draft = replace(
        pack,
        name=pack.name + SUFFIX,
        title=f"{pack.title}, in 8 bits",
        files=files,
        sources=(),
        variant_of=pack.name,
        loss="",
        golden=None,
        impostor_tail=None,
    )
    return InstalledPack(draft, made, str(folder))


def _file(file: ModelFile, path: Path) -> ModelFile:
    return replace(file, name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)


def measured(settings: Settings, light: InstalledPack, whole: Pack, people: Path) -> Pack:
    """*light* with its impostor figures, its golden values and its loss against *whole*, from the
    folder *people* (see ``kaopass accuracy``)."""
    found = read_folder(people)
    several = [person for person in found if len(person.pictures) > 1]
    trial = plan(
        found, gallery_size=None, enroll_images=3, probe_frames=1, first_probe=None, seed=None
    )
    told = []
    views: dict[Path, PictureView] = {}
    for pack in (locate(whole.name, settings.models_directory, settings.models.licence), light):
        views = _read(settings, pack, trial, [p for one in several for p in one.pictures])
        outcomes = play(trial, views).outcomes
        told.append([outcomes.fnir(outcomes.threshold_for(fpir)).value for fpir in FPIRS])
    figures = pack_figures(several, views)
    body, tail = figures.measured, figures.measured.tail
    changes = ", ".join(
        f"FNIR at FPIR {fpir:.1%}: {before:.2%} -> {after:.2%}"
        for fpir, before, after in zip(FPIRS, *told, strict=True)
    )
    return replace(
        light.pack,
        impostor_fmr=tuple((round(r, 9), round(c, 4)) for r, c in body.fmr),
        impostor_tail=ImpostorTail(
            source=f"{people.resolve().name}: its people with two or more pictures",
            people=body.people,
            pairs=body.pairs,
            start=round(body.fmr[-1][1], 4),
            rate=round(body.fmr[-1][0], 9),
            scale=round(tail.scale, 5),
            shape=round(tail.shape, 4),
            errors=tuple((rate, round(error, 4)) for rate, error in body.errors),
            averaging=round(figures.averaging, 3),
        ),
        golden=golden_values(pack_networks(settings, light, open_session)),
        loss=f"{changes}; {len(trial.enrolled)} people of {people.resolve().name} enrolled",
    )


def _read(
    settings: Settings, pack: InstalledPack, trial: Evaluation, singles: list[Path]
) -> dict[Path, PictureView]:
    judge = quality_gate(settings).judge

    def eyes() -> Eyes:
        networks: Networks = pack_networks(settings, pack, open_session)
        return Eyes(networks.detector, networks.embedder, judge)

    come = [p for probe in (*trial.probes, *trial.strangers) for p in probe.pictures]
    workers = len(os.sched_getaffinity(0))
    return read_views(
        [*come, *singles], singles, read_picture, eyes, workers=workers, done=lambda: None
    )


def put(pack: Pack, folder: Path, directory: Path) -> Path:
    """Move *folder* into the installed packs with ``pack.json`` in it, replacing an older one."""
    (folder / LOCAL).write_text(json.dumps(asdict(pack), indent=1), encoding="utf-8")
    final = directory / pack.name
    if final.exists():
        shutil.rmtree(final)
    folder.rename(final)
    final.chmod(0o755)
    return final


def lighten(
    settings: Settings, images: Path | None, people: Path | None, tell: Callable[[Network], None]
) -> tuple[Pack, Path] | None:
    """Make and compare the variant; with *people* also measure and keep it: it, and where it is.

    *tell* is given each network as soon as it is compared. Raises KaopassError.
    """
    models = settings.models
    whole = locate(models.pack, settings.models_directory, models.licence)
    if whole.pack.variant_of:
        raise UsageError(f"{models.pack} is a variant already; name the pack it was made of")
    calls = calls_of(settings, whole, images_of(images))
    settings.models_directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".int8-", dir=settings.models_directory) as scratch:
        folder = Path(scratch) / "pack"
        folder.mkdir()
        made = {}
        for file in whole.pack.files:
            source = whole.paths[file.role]
            if not calls.get(source):
                continue
            made[file.role] = folder / f"{source.stem}{SUFFIX}.onnx"
            to_int8(source, made[file.role], [feed for _, feed in calls[source]])
            tell(compared(file.role, source, made[file.role], calls[source]))
        if people is None:
            return None
        pack = measured(settings, variant_of(whole.pack, folder, made), whole.pack, people)
        return pack, put(pack, folder, settings.models_directory)
