"""``kaopass lab golden``: the golden section of a pack, from the models as installed."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.lab.common import need_lab
from agent.settings.model import load


@click.command("golden")
@click.argument("pack", default="buffalo_s")
def command(pack: str) -> None:
    """Print the golden section of PACK for models/manifest.toml: the self-test believes it.

    Only for a pack whose figures were just measured and found right.
    """
    need_lab()
    from agent.lab.golden import golden_values
    from agent.packs.store import known_packs
    from agent.wiring.parts import door_networks

    given: dict[str, dict[str, Any]] = {
        "models": {"pack": pack, "licence": "research"},
        "liveness": {"pack": pack},
    }
    files = known_packs(load(None, given).models_directory).pack(pack).files
    judges = any(file.role == "liveness" for file in files)
    given["liveness"]["mode"] = "on" if judges else "off"
    values = golden_values(door_networks(load(None, given)))
    click.echo(f"[packs.{pack}.golden]")
    click.echo(f'picture = "{values.picture}"')
    click.echo(f'sha256 = "{values.sha256}"')
    click.echo("landmarks = [")
    for row in values.landmarks:
        click.echo(f"    [{', '.join(f'{value:.1f}' for value in row)}],")
    click.echo("]")
    click.echo(f"cosines = [{', '.join(f'{value:.4f}' for value in values.cosines)}]")
    if values.log_odds:
        click.echo(f"log_odds = [{', '.join(f'{value:.3f}' for value in values.log_odds)}]")
