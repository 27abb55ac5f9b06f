"""Spoilt messages without end, into every way in: nothing may break, change or grow.

``scripts/fuzz --messages 1000000 --json``. Every message follows from the seed and its number, so
a finding names both. The last line is ``{"messages", "refused", "taken", "by_target", "defects",
"memory_growth_percent", "seconds", "seed"}``; exit code 1 if there is a defect.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import random
import resource
import secrets
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import click

from agent.device.memory import return_freed
from tests.fuzz.target import REFUSED, TAKEN, Target, corpus_of
from tests.fuzz.targets import all_targets

MEMORY_WARM = 0.2  # of the messages: caches fill before memory is first looked at
MOST_SHOWN = 5  # defects of one target


@dataclass
class Tally:
    """What came of the messages to one target."""

    refused: int = 0
    taken: int = 0
    defects: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def messages(self) -> int:
        return self.refused + self.taken + len(self.defects)


def attack(target: Target, seed: int, first: int, count: int, tally: Tally) -> None:
    """Messages *first* to *first* + *count* of *seed* into *target*."""
    began = time.perf_counter()
    state = target.state()
    for number in range(first, first + count):
        message = target.spoilt(random.Random(f"{seed} {target.name} {number}"))
        try:
            outcome = target.feed(message)
            after = target.state()
            if outcome == REFUSED and after != state:
                raise AssertionError("a refused message changed the state")
            state = after
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            tally.defects.append(
                f"message {number} of seed {seed}: {type(error).__name__}: {error} "
                f"({Path(where.filename).name}:{where.lineno})"
            )
            continue
        if outcome == REFUSED:
            tally.refused += 1
        else:
            assert outcome == TAKEN
            tally.taken += 1
    tally.seconds += time.perf_counter() - began


def shares(targets: list[Target], messages: int) -> dict[str, int]:
    """How many messages each target gets: by its share, those without one a few slow ones."""
    whole = sum(target.share for target in targets)
    found = {
        target.name: messages * target.share // whole if target.share else max(20, messages // 5000)
        for target in targets
    }
    found[targets[0].name] += max(0, messages - sum(found.values()))
    return found


def memory_kb() -> int:
    """Resident memory now, without what is freed but kept for the next large message."""
    gc.collect()
    return_freed()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


@click.command()
@click.option("--messages", default=1_000_000, show_default=True, help="How many in all.")
@click.option("--seed", type=int, help="Repeat the run of this seed.")
@click.option("--target", "only", multiple=True, help="Only targets whose name contains this.")
@click.option(
    "--guided",
    type=int,
    metavar="SECONDS",
    help="Instead: so long on each target with a fuzzer that watches coverage (needs atheris).",
)
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
def main(
    messages: int, seed: int | None, only: tuple[str, ...], guided: int | None, as_json: bool
) -> None:
    """Spoilt messages into every way in of device and city."""
    if guided is not None:
        grow(guided, only)
        return
    logging.disable(logging.CRITICAL)  # each refusal is logged; a million lines say nothing
    seed = secrets.randbelow(2**31) if seed is None else seed
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        targets = all_targets(Path(folder))
        if only:
            targets = [t for t in targets if any(part in t.name for part in only)]
        if not targets:
            raise click.UsageError(f"no target is called like {', '.join(only)}")
        tallies = {target.name: Tally() for target in targets}
        counts = shares(targets, messages)
        warm_kb = 0
        rounds = 20
        with click.progressbar(range(rounds), label="fuzzing", file=sys.stderr) as bar:
            for step in bar:
                for target in targets:
                    first, last = (counts[target.name] * n // rounds for n in (step, step + 1))
                    attack(target, seed, first, last - first, tallies[target.name])
                if step + 1 == round(rounds * MEMORY_WARM):
                    warm_kb = memory_kb()
        growth = 100.0 * (memory_kb() - warm_kb) / warm_kb
        for target in targets:
            target.close()
    report(tallies, growth)
    defects = sum(len(tally.defects) for tally in tallies.values())
    if as_json:
        click.echo(
            json.dumps(
                {
                    "messages": sum(tally.messages for tally in tallies.values()),
                    "refused": sum(tally.refused for tally in tallies.values()),
                    "taken": sum(tally.taken for tally in tallies.values()),
                    "by_target": {name: tally.messages for name, tally in tallies.items()},
                    "defects": defects,
                    "memory_growth_percent": round(growth, 2),
                    "seconds": round(time.perf_counter() - began, 1),
                    "seed": seed,
                }
            )
        )
    sys.exit(1 if defects else 0)


def grow(seconds: int, only: tuple[str, ...]) -> None:
    """Look for inputs that reach new code, target by target, and keep the few that do."""
    if importlib.util.find_spec("atheris") is None:
        raise click.ClickException("atheris is not installed; run: .venv/bin/pip install atheris")
    with tempfile.TemporaryDirectory() as folder:
        named = [target.name for target in all_targets(Path(folder)) if target.seeds()]
    for name in named:
        if only and not any(part in name for part in only):
            continue
        # A process each: the fuzzer ends the one it runs in.
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seconds)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            raise click.ClickException(f"{name}:\n{done.stderr.decode()[-2000:]}")
        kept = list(corpus_of(name).iterdir())
        size = sum(file.stat().st_size for file in kept)
        click.echo(f"{name:<26}{len(kept):>5} inputs kept, {size:,} bytes")


def report(tallies: dict[str, Tally], growth: float) -> None:
    """The table a person reads."""
    click.echo(
        f"{'way in':<26}{'messages':>10}{'refused':>10}{'taken':>8}{'defects':>9}{'us each':>9}"
    )
    for name, tally in tallies.items():
        each = 1e6 * tally.seconds / max(1, tally.messages)
        click.echo(
            f"{name:<26}{tally.messages:>10,}{tally.refused:>10,}{tally.taken:>8,}"
            f"{len(tally.defects):>9,}{each:>9.0f}"
        )
        for defect in tally.defects[:MOST_SHOWN]:
            click.echo(f"    {defect[:300]}")
    click.echo(f"memory grew by {growth:.2f}% after the first fifth")


if __name__ == "__main__":
    main()
