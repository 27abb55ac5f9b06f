"""``kaopass gallery calibrate``: set the threshold by the residents who are enrolled here."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.common import json_option, print_json, settings_option
from agent.cli.gallery.group import existing
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
    from agent.recognition.calibration import (
        LEAST_TEMPLATES,
        from_measured,
        measure_residents,
        save,
    )
    from agent.recognition.rules import pack_calibration, rule_for

    settings = load(settings_file)
    file = settings.calibration_file
    if remove:
        file.unlink(missing_ok=True)
        if as_json:
            print_json({"removed": str(file)})
        else:
            click.echo("the model pack's own figures set the threshold again")
        return
    with existing(settings) as gallery:
        templates = gallery.load()
    measured = measure_residents(templates)
    save(file, settings.models.pack, measured)
    here = rule_for(settings.decision, from_measured(measured, 0.0), templates)
    packs_own = pack_calibration(known_packs(settings.models_directory).pack(settings.models.pack))
    before = rule_for(settings.decision, packs_own, templates)
    result = {
        "people": measured.people,
        "pairs": measured.pairs,
        "doubles": measured.doubles,
        "promised_fpir": settings.decision.fpir,
        "threshold": round(here.threshold, 4),
        "pack_threshold": round(before.threshold, 4),
    }
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{measured.pairs} pairs of {measured.people} residents: for a promised FPIR of "
        f"{settings.decision.fpir:g} with {max(len(templates.ids), LEAST_TEMPLATES)} people the "
        f"threshold is {here.threshold:.3f}; by the model pack's figures it would be "
        f"{before.threshold:.3f}"
    )
    if measured.doubles:
        click.echo(
            f"{measured.doubles} pair(s) of records look like one person under two ids and were "
            "left out; enrolling one of them again, with kaopass gallery enroll, names the other"
        )
