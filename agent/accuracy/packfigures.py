"""The impostor figures of a model pack, for models/manifest.toml, measured on a folder of people.

Only people with two or more pictures are looked at. Those with one are the strangers that
``kaopass accuracy`` tests the promise with: a threshold set with their help would prove nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agent.accuracy.protocol import PersonPictures
from agent.accuracy.reading import PictureView
from agent.base.values import Vector
from agent.recognition.fusion import fuse, template
from agent.recognition.tail import Measured, measure

AVERAGED = 3  # views in the group that shows what averaging does


@dataclass(frozen=True, slots=True, eq=False)
class PackFigures:
    """The scores of single views with single-view templates, and how averaging spreads them."""

    measured: Measured
    averaging: float

    def toml(self, pack: str, source: str) -> str:
        """The lines for the manifest."""
        found, tail = self.measured, self.measured.tail
        pairs = "\n".join(f"    [{rate:.6g}, {cosine:.4f}]," for rate, cosine in found.fmr)
        errors = ", ".join(f"[{rate:g}, {error:.4f}]" for rate, error in found.errors)
        return "\n".join(
            (
                f"[packs.{pack}]",
                f"impostor_fmr = [\n{pairs}\n]",
                "",
                f"[packs.{pack}.impostor_tail]",
                f'source = "{source}"',
                f"people = {found.people}",
                f"pairs = {found.pairs}",
                f"start = {tail.start:.4f}",
                f"rate = {tail.rate:.6g}",
                f"scale = {tail.scale:.5f}",
                f"shape = {tail.shape:.4f}",
                f"errors = [{errors}]",
                f"averaging = {self.averaging:.3f}",
            )
        )


def pack_figures(
    people: Sequence[PersonPictures], views: Mapping[Path, PictureView]
) -> PackFigures:
    """Measure on *people*, all of whose pictures are in *views* as probes and as references.

    Raises UsageError when they are too few.
    """
    good = [
        [v for v in (views[p] for p in person.pictures) if v.quality.usable] for person in people
    ]
    singles = measure(*_rows(good, 1, reference=True), *_rows(good, 1, reference=False))
    spread = []
    for images, probes in ((AVERAGED, 1), (1, AVERAGED)):
        grouped = measure(
            *_rows(good, images, reference=True), *_rows(good, probes, reference=False)
        )
        spread.append((grouped.tail.start / singles.tail.start - 1) / (1 - 1 / AVERAGED))
    # The larger of both: a promise may be kept better than promised, not worse.
    return PackFigures(singles, max(*spread, 0.0))


def _rows(
    people: Sequence[Sequence[PictureView]], size: int, *, reference: bool
) -> tuple[Vector, NDArray[np.intp]]:
    """Rows of groups of *size* views that share none, and whose they are."""
    rows, owners = [], []
    for number, views in enumerate(people):
        for i in range(0, len(views) - size + 1, size):
            group = views[i : i + size]
            weights = [view.quality.score for view in group]
            if reference:
                given = np.stack([v.reference for v in group if v.reference is not None])
                rows.append(template(given, weights))
            else:
                rows.append(fuse([v.probe for v in group if v.probe is not None], weights))
            owners.append(number)
    return np.stack(rows), np.asarray(owners, dtype=np.intp)
