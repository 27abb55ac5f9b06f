"""``kaopass gallery enroll``: put a person into this device's gallery from pictures or a clip."""

from __future__ import annotations

import time
from pathlib import Path

import click

from agent.cli.common import json_option, open_ring, print_json, settings_option
from agent.settings import load


@click.command("enroll")
@click.argument("person_id", metavar="ID")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@settings_option
@click.option("--nickname", default="", help="What the door says to them; never their name.")
@click.option(
    "--purpose",
    "purposes",
    type=click.Choice(["bus", "hall"]),
    multiple=True,
    default=["bus", "hall"],
    show_default=True,
    help="What they agreed to; may be given twice.",
)
@click.option(
    "--min-images", type=click.IntRange(1, 50), help="Accept fewer or ask for more views."
)
@json_option
def command(
    person_id: str,
    files: tuple[str, ...],
    settings_file: Path | None,
    nickname: str,
    purposes: tuple[str, ...],
    min_images: int | None,
    as_json: bool,
) -> None:
    """Enrol ID from photographs or clips of that one person.

    Each picture must show one face, in usable quality; a refusal says why. A person already
    enrolled gets the new templates instead of the old. Nothing of the pictures is kept. A running
    agent takes the change up within seconds.
    """
    from agent.identity.gallery import Gallery
    from agent.parts import enroller, enrolment_frames, open_networks

    settings = load(settings_file)
    networks = open_networks(settings)
    ring = open_ring(settings)
    # All refusals come before anything is touched; the plain embeddings stay in memory.
    enrol = enroller(settings, networks, min_images=min_images)
    enrolled = enrol.enrol((file, enrolment_frames(file)) for file in files)
    settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = settings.state_directory / "gallery.db"
    pack, domain = networks.embedder.pack, settings.place.kind
    with Gallery(path, ring, pack, domain=domain) as gallery:
        templates = gallery.protection.apply(enrolled.templates)
        gallery.enroll(
            person_id, templates, nickname, tuple(purposes), now_ms=time.time_ns() // 10**6
        )
    result = {
        "id": person_id,
        "templates": len(enrolled.templates),
        "views_seen": enrolled.views_seen,
        "views_used": enrolled.views_used,
    }
    if as_json:
        print_json(result)
    else:
        click.echo(
            f"{person_id}: enrolled from {result['views_used']} of {result['views_seen']} views"
        )
