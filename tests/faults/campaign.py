"""``scripts/campaign``: rounds of faults for as long as asked, then one line with the findings."""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from tests.faults.disks.trace import build_library, memory_folder
from tests.faults.drivers.driver import KINDS
from tests.faults.processes import Processes
from tests.faults.round import DEVICES, WEAKNESSES, Outcome, run_round

ROUND_SECONDS = 20.0
SHOWN = 10


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", type=click.FloatRange(min=1), default=60.0, show_default=True)
@click.option("--seed", type=int, help="Of the first round; the next ones count up from it.")
@click.option("--rounds", type=click.IntRange(min=1), help="At most so many: 1 repeats a seed.")
@click.option(
    "--only",
    default="",
    metavar="KIND,...",
    help=f"Only these faults, or all whose names begin so: {', '.join(KINDS)}.",
)
@click.option("--weaken", type=click.Choice(WEAKNESSES), help="A weakness that must be found.")
@click.option("--devices", type=click.IntRange(min=1), default=DEVICES, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
@click.option("--keep", is_flag=True, help="Keep the files of rounds that failed.")
def campaign(
    seconds: float,
    seed: int | None,
    rounds: int | None,
    only: str,
    weaken: str | None,
    devices: int,
    as_json: bool,
    keep: bool,
) -> None:
    """Kill, cut and confuse a whole town for SECONDS; exit 1 if an event is lost or doubled.

    Devices with real journals, a real Mosquitto and the real city side. Every choice of a round
    follows from its seed: repeat one with --seed SEED --rounds 1.
    """
    kinds = [kind for kind in KINDS if any(kind.startswith(o) for o in only.split(","))]
    if not kinds:
        raise click.UsageError(f"--only {only!r} names none of {', '.join(KINDS)}")
    seed = secrets.randbelow(2**31) if seed is None else seed
    until = time.monotonic() + seconds
    work = Path(tempfile.mkdtemp(prefix="kaopass-", dir=memory_folder()))
    outcomes: list[Outcome] = []
    failed_any = False
    try:
        with Processes(build_library(work), work / "processes.log") as processes:
            while (left := until - time.monotonic()) > 1.0 and len(outcomes) != rounds:
                folder = work / f"round-{seed + len(outcomes)}"
                outcome = run_round(
                    folder,
                    processes,
                    seed + len(outcomes),
                    min(ROUND_SECONDS, left),
                    kinds=kinds,
                    weaken=weaken or "",
                    devices=devices,
                    said=lambda done: _tell(outcomes, done),
                )
                outcomes.append(outcome)
                _report(outcome)
                failed_any |= outcome.failed
                if not (keep and outcome.failed):
                    shutil.rmtree(folder)
    finally:
        if keep and failed_any:
            click.echo(f"kept: {work}", err=True)
        else:
            shutil.rmtree(work, ignore_errors=True)
    summary = summarise(outcomes)
    click.echo(json.dumps(summary) if as_json else _for_people(summary))
    sys.exit(1 if failed_any else 0)


def summarise(outcomes: list[Outcome]) -> dict[str, object]:
    """The last line. ``destroyed``: events whose page was destroyed, which the journal reported."""
    by_kind: Counter[str] = sum((outcome.by_kind for outcome in outcomes), Counter())
    return {
        "faults": by_kind.total(),
        "by_kind": {kind: by_kind[kind] for kind in KINDS if by_kind[kind]},
        "events": sum(outcome.events for outcome in outcomes),
        "lost": sum(len(outcome.lost) for outcome in outcomes),
        "duplicated": sum(len(outcome.duplicated) for outcome in outcomes),
        "destroyed": sum(outcome.destroyed for outcome in outcomes),
        "rounds": len(outcomes),
        "seeds_failed": [outcome.seed for outcome in outcomes if outcome.failed],
    }


def _tell(outcomes: list[Outcome], done: Counter[str]) -> None:
    before = sum(outcome.by_kind.total() for outcome in outcomes)
    if sys.stderr.isatty():
        click.echo(f"\r{before + done.total():>7} faults", nl=False, err=True)


def _report(outcome: Outcome) -> None:
    groups = Counter[str]()
    for kind, count in outcome.by_kind.items():
        groups[kind if kind in ("sigkill", "power_cut") else kind.split("_")[0]] += count
    done = ", ".join(f"{count} {group}" for group, count in sorted(groups.items()))
    click.echo(
        f"\rround seed {outcome.seed}: {outcome.events} events, {len(outcome.lost)} lost, "
        f"{len(outcome.duplicated)} duplicated; {done}",
        err=True,
    )
    for what, lines in (
        ("lost", outcome.lost),
        ("duplicated", outcome.duplicated),
        ("problem", outcome.problems),
    ):
        for line in lines[:SHOWN]:
            click.echo(f"  {what}: {line}", err=True)
        if len(lines) > SHOWN:
            click.echo(f"  and {len(lines) - SHOWN} more {what}", err=True)


def _for_people(summary: dict[str, object]) -> str:
    by_kind = summary["by_kind"]
    assert isinstance(by_kind, dict)
    lines = [f"{kind:<20} {count:>7}" for kind, count in by_kind.items()]
    rest = ("faults", "events", "lost", "duplicated", "destroyed", "rounds", "seeds_failed")
    return "\n".join([*lines, *(f"{name}: {summary[name]}" for name in rest)])


if __name__ == "__main__":
    campaign()
