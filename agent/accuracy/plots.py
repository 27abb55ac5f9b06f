"""The DET curve and the score histogram as PNG, readable without colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from agent.accuracy.rates import NEVER
from agent.accuracy.report import AccuracyReport, percent
from agent.base.errors import UsageError

DOTS_PER_INCH = 130
BINS = 70


def draw(report: AccuracyReport, folder: Path, title: str) -> list[Path]:
    """Write ``det.png`` and ``scores.png`` into *folder*, made if need be; returns their paths.

    Only curves and counts: neither picture nor name nor embedding. Raises UsageError.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, plot in (("det.png", _det), ("scores.png", _scores)):
            figure = Figure(figsize=(8, 5.5), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            plot(report, axes)
            axes.set_title(title, fontsize=10)
            axes.grid(True, which="both", linewidth=0.3, color="0.8")
            figure.savefig(folder / name, dpi=DOTS_PER_INCH)
            written.append(folder / name)
    except OSError as error:
        raise UsageError(f"--plots {folder}: cannot be written: {error.strerror}") from error
    return written


def _det(report: AccuracyReport, axes: Axes) -> None:
    """FNIR over FPIR, both logarithmic; zero errors lie on the floor of what could be seen."""
    found = report.run.outcomes
    _, fpir, fnir = found.curve()
    floor_x, floor_y = 0.5 / len(found.strange), 0.5 / len(found.mated)
    axes.step(
        np.maximum(fpir, floor_x), np.maximum(fnir, floor_y), where="post", color="black", lw=1.6
    )
    for number, item in enumerate(report.results):
        x, y = max(item.fpir.value, floor_x), max(item.fnir.value, floor_y)
        low, high = item.fnir.interval
        axes.errorbar(
            x,
            y,
            yerr=[[y - max(low, floor_y / 2) if item.fnir.errors else 0.0], [high - y]],
            fmt="os^Dv"[number % 5],
            color="black",
            markerfacecolor="white",
            markersize=8,
            capsize=4,
            label=f"FPIR {percent(item.asked)}: FNIR {percent(item.fnir.value)}, 95% interval",
        )
    for number, at in enumerate(report.calibrated):
        axes.plot(
            max(at.fpir.value, floor_x),
            max(at.fnir.value, floor_y),
            linestyle="none",
            marker="x+*1234"[number % 7],
            color="0.35",
            markersize=11,
            markeredgewidth=2,
            label=f"calibrated for {percent(at.promised)}: FPIR {percent(at.fpir.value)}",
        )
    axes.axhline(floor_y, color="0.5", lw=0.8, linestyle=":")
    axes.text(0.99, floor_y, "no miss at all ", va="bottom", ha="right", fontsize=8,
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="FPIR: strangers taken for somebody",
             ylabel="FNIR: residents not recognised")  # fmt: skip
    axes.set_xlim(floor_x, 1)
    axes.set_ylim(floor_y / 2, 1)
    axes.legend(fontsize=8, loc="upper right")


def _scores(report: AccuracyReport, axes: Axes) -> None:
    """How often each score occurs: hatched for strangers, outlined for residents."""
    found = report.run.outcomes
    mated = found.mated[found.mated > NEVER]
    strange = found.strange[found.strange > NEVER]
    edges = np.linspace(
        float(min(strange.min(initial=0.0), mated.min(initial=0.0))),
        float(max(strange.max(initial=1.0), mated.max(initial=1.0))),
        BINS,
    ).tolist()
    axes.hist(
        strange,
        edges,
        density=True,
        histtype="stepfilled",
        facecolor="0.85",
        edgecolor="0.3",
        hatch="////",
        label=f"strangers, best of the gallery ({len(strange)})",
    )
    axes.hist(
        mated,
        edges,
        density=True,
        histtype="step",
        color="black",
        lw=1.8,
        label=f"residents, themselves ({len(mated)})",
    )
    for number, at in enumerate(report.calibrated):
        axes.axvline(
            at.threshold,
            color="black",
            lw=1.4,
            linestyle=("--", "-.", ":")[number % 3],
            label=f"threshold for FPIR {percent(at.promised)}: {at.threshold:.3f}",
        )
    axes.set_xlabel("score (cosine, weighted by the template's quality)")
    axes.set_ylabel("density")
    axes.legend(fontsize=8, loc="upper right")
