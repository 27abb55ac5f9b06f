"""Upgrade a town from an earlier version, either half first, and prove that nothing got lost.

``scripts/upgrade-check [OLD]``: OLD is a revision of this repository. For each kind of database and
each order a town is founded and filled by the old version alone; then one half runs the new one,
then both do. Everything is asked of it by commands, over a real Mosquitto with mutual TLS.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click

from tests.postgres import Postgres
from tests.upgrade.story import ORDERS, Figures, tell
from tests.upgrade.town import UpgradeError, Version

CHECKOUT = Path(__file__).parents[2]
OLD = "4e2c240"


@dataclass
class Result:
    """One order on one kind of database."""

    database: str
    order: str
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    figures: Figures | None = None


@contextmanager
def checked_out(revision: str, folder: Path) -> Iterator[Path]:
    """The tree of *revision*, without touching this one."""
    archive = ["git", "archive", "--format=tar", revision]
    place = folder / revision.replace("/", "-")
    place.mkdir()
    packed = subprocess.run(archive, cwd=CHECKOUT, capture_output=True, check=False)
    if packed.returncode:
        raise click.UsageError(packed.stderr.decode().strip())
    subprocess.run(["tar", "-x", "-C", str(place)], input=packed.stdout, check=True)
    yield place


def run_all(
    old: Version, new: Version, folder: Path, databases: tuple[str, ...], boardings: int
) -> Iterator[Result]:
    needed = "postgresql" in databases
    with Postgres(durable=False) if needed else nullcontext() as postgres:
        for database in databases:
            for order in ORDERS:
                place = folder / f"{database}-{order}"
                place.mkdir()
                server = database == "postgresql" and postgres is not None
                address = postgres.database() if server and postgres else str(place / "city.db")
                result = Result(database, order)
                began = time.monotonic()
                try:
                    result.figures = tell(place, address, old, new, order, boardings)
                    result.problems = result.figures.problems
                except UpgradeError as error:
                    result.problems = [str(error)]
                result.seconds = round(time.monotonic() - began, 1)
                yield result


def line_of(result: Result) -> str:
    told = "; ".join(result.problems) or "ok"
    if result.figures is not None:
        told = f"{result.figures} - {told}"
    return f"{told} ({result.seconds:g} s)"


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__)
@click.argument("revision", default=OLD, metavar="[OLD]")
@click.option("--python", default=sys.executable, help="Runs the old version; default: this one.")
@click.option(
    "--database", "databases", type=click.Choice(["sqlite", "postgresql"]), multiple=True,
    default=("sqlite", "postgresql"), help="Only this kind.",
)  # fmt: skip
@click.option(
    "--boardings", default=8, type=click.IntRange(1), show_default=True,
    help="At least so many in each of a town's four stretches.",
)  # fmt: skip
@click.option("--keep", is_flag=True, help="Leave the towns' folders, to look at.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
def main(
    revision: str,
    python: str,
    databases: tuple[str, ...],
    boardings: int,
    *,
    keep: bool,
    as_json: bool,
) -> None:
    with (
        nullcontext(tempfile.mkdtemp(prefix="kaopass-upgrade-"))
        if keep
        else tempfile.TemporaryDirectory(prefix="kaopass-upgrade-") as made
    ):
        folder = Path(made)
        with checked_out(revision, folder) as tree:
            old, new = Version(revision, tree, python), Version("new", CHECKOUT)
            for version in (old, new):
                version.check()
            results = []
            for result in run_all(old, new, folder, databases, boardings):
                results.append(result)
                if not as_json:
                    click.echo(f"{result.database}, {result.order}: {line_of(result)}")
        if keep:
            click.echo(f"kept: {folder}", err=True)
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], ensure_ascii=False, indent=1))
    sys.exit(any(result.problems for result in results))


if __name__ == "__main__":
    main()
