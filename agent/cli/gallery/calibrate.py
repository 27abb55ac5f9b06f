"""``kaopass gallery calibrate``: set the threshold by the residents who are enrolled here."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import json_option, operator, print_json, settings_option
from agent.settings.model import load


@click.command("calibrate")
@click.option("--remove", is_flag=True, help="Go by the model pack's own figures again.")
@settings_option
@json_option
def command(remove: bool, settings_file: Path | None, as_json: bool) -> None:
    """Measure how much the enrolled residents resemble each other, and set the threshold by it.

    Every two residents are a pair of different people whose score is known already: no image is
    needed, and only a few numbers on all of them together are kept. Takes 500 residents or more.
    Do it again when many have been added; a running agent takes it up at its next start.
    """
    from agent.packs.store import known_packs
    from agent.usecases.calibration import calibrate, forget_calibration
    from agent.wiring.desk import LocalDesk

    settings = load(settings_file)
    desk, file = LocalDesk(settings), settings.calibration_file
    if remove:
        forget_calibration(file, audit=desk.audit, actor=operator())
        if as_json:
            print_json({"removed": str(file)})
        else:
            click.echo("the model pack's own figures set the threshold again")
        return
    pack = known_packs(settings.models_directory).pack(settings.models.pack)
    with desk.gallery() as gallery:
        found = calibrate(
            gallery, file, pack, settings.decision, audit=desk.audit, actor=operator()
        )
    result = {
        "people": found.people,
        "pairs": found.pairs,
        "doubles": found.doubles,
        "promised_fpir": settings.decision.fpir,
        "threshold": round(found.threshold, 4),
        "pack_threshold": round(found.pack_threshold, 4),
    }
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{found.pairs} pairs of {found.people} residents: for a promised FPIR of "
        f"{settings.decision.fpir:g} with {found.templates} people the threshold is "
        f"{found.threshold:.3f}; by the model pack's figures it would be {found.pack_threshold:.3f}"
    )
    if found.doubles:
        click.echo(
            f"{found.doubles} pair(s) of records look like one person under two ids and were "
            "left out; enrolling one of them again, with kaopass gallery enroll, names the other"
        )
