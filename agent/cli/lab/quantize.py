"""``kaopass lab quantize``: an 8-bit variant of a model pack, and what it costs and saves here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.cli.lab.common import need_lab
from agent.settings.model import load

_folder = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("quantize")
@click.argument("pack")
@click.option(
    "--pictures",
    type=_folder,
    help="Pictures that ranges are taken from; default: those of installed packages.",
)
@click.option("--people", type=_folder, help="People to measure its loss on, a folder each.")
@click.option("--models", "directory", type=click.Path(path_type=Path), help="Installed packs.")
def command(pack: str, pictures: Path | None, people: Path | None, directory: Path | None) -> None:
    """Make PACK-int8, an 8-bit variant, and print what it costs and saves.

    With --people, a folder of people as for `kaopass accuracy`, its loss is measured and it is
    put among the installed packs, to be chosen by models.pack.
    """
    given: dict[str, Any] = {"pack": pack, "licence": "research", "threads": 1}
    if directory is not None:
        given["directory"] = directory
    need_lab()
    from agent.lab.lighter import Network, lighten
    from agent.recognition.rules import pack_calibration

    rows: list[Network] = []

    def tell(row: Network) -> None:
        if not rows:
            click.echo("network       MB   int8       ms   int8  ratio   cosine: least  median")
        rows.append(row)
        click.echo(
            f"{row.role:10} {row.megabytes:5.1f} {row.megabytes_int8:6.1f}  {row.ms:7.2f} "
            f"{row.ms_int8:6.2f}  {row.ratio:5.2f}          {row.least_cosine:.4f}  "
            f"{row.median_cosine:.4f}"
        )

    settings = load(None, {"models": given, "liveness": {"mode": "off"}})
    kept = lighten(settings, pictures, people, tell)
    if kept is None:
        click.echo("not kept: give --people DIR to measure its loss")
        return
    variant, where = kept
    click.echo(f"{variant.name}: {variant.loss}")
    threshold = pack_calibration(variant).threshold(100, 0.001)
    click.echo(f"threshold for 100 people at FPIR 0.1%: {threshold:.3f}")
    click.echo(f'kept in {where}; choose it with models.pack = "{variant.name}"')
