"""A whole door whose gallery is the city's: nobody without its word, and nobody it has let go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent.base.errors import StatusError
from agent.device.statussocket import ask
from agent.keys.certificates import new_key
from agent.keys.pseudonym import Pseudonyms
from agent.link.provisioning.credentials import AUTHORITIES, CERTIFICATE, IdentityFolder, Plan
from tests.line.door import DEVICE, Door, in_journal, people_of
from tests.link.galleries.scripted.city import ScriptedCity
from tests.link.galleries.scripted.live import LiveCity
from tests.mosquitto import Mosquitto
from tests.protocol.conftest import town
from tests.protocol.town import Town
from tests.waiting import until

__all__ = ["town"]
PICTURE = "players.jpg"


def provisioned(door: Door, town: Town) -> None:
    """As ``kaopass provision`` leaves it."""
    key = new_key()
    public = load_pem_private_key(key, None).public_key()
    certificate = town.authority.sign_device(public, DEVICE, "serial")  # type: ignore[arg-type]
    folder = IdentityFolder(door.state / "identity")
    with folder.locked():
        generation = folder.begin(Plan("claim", "https://city", DEVICE, "serial", "x"), key)
        generation.write(CERTIFICATE, certificate.public_bytes(Encoding.PEM))
        generation.write(AUTHORITIES, town.authority.certificates_pem())
        folder.commit(generation)


@pytest.fixture
def city(town: Town) -> ScriptedCity:
    found = ScriptedCity(town, pack="buffalo_s")
    everybody = people_of(PICTURE).items()
    found.publish({name: found.record(name, rows) for name, rows in everybody})
    return found


@pytest.fixture
def door(tmp_path: Path, mosquitto: Mosquitto, town: Town) -> Iterator[Door]:
    gallery = {"source": "city", "confirm_seconds": 8.0, "check_seconds": 5.0}
    with Door(tmp_path / "door", mosquitto.port, gallery=gallery) as found:
        provisioned(found, town)
        yield found


def persons(door: Door) -> set[str]:
    return {person for _, _, person in in_journal(door)}


def detail(door: Door, name: str) -> Any:
    return ask(door.state / "status.sock")["detail"][name]


def alarms(door: Door) -> str:
    """What is wrong; nothing while the agent is still starting."""
    try:
        return " ".join(ask(door.state / "status.sock")["alarms"])
    except StatusError:
        return ""


def test_the_door_knows_whom_the_city_knows_and_no_longer(
    door: Door, city: ScriptedCity, mosquitto: Mosquitto
) -> None:
    """No gallery, a gallery, one resident fewer, a start without the city, and one with it."""
    clip = door.queue_of(PICTURE)
    door.start(clip)
    door.wait_for("fallback")
    assert "no gallery has come" in alarms(door)
    assert persons(door) == set()
    with LiveCity(city, mosquitto.port, [DEVICE]) as live:
        live.announce()
        door.wait_for("welcome")
        until(lambda: len(persons(door)) >= 2, "two have boarded")
        until(lambda: "face recognition" not in alarms(door))
        pseudonyms = Pseudonyms(lambda purpose: city.keys.pseudonyms[purpose])
        named = {pseudonyms.of(name, "bus"): name for name in people_of(PICTURE)}
        gone, name = next((p, named[p]) for p in sorted(persons(door)))
        city.publish(gone=[name])
        live.announce()
        until(lambda: detail(door, "city_gallery")["version"] == 2)
        before = len(in_journal(door))
        until(lambda: detail(door, "gallery")["people"] == len(city.residents))
        until(lambda: len(in_journal(door)) > before + 5, "the others board on")
        assert gone not in {person for _, _, person in in_journal(door)[before:]}
    door.stop()
    # Nobody answers: for some seconds nobody is matched, then those who were not revoked.
    before = len(in_journal(door))
    door.start(clip)
    until(lambda: "not on yet" in alarms(door))
    assert len(in_journal(door)) == before
    until(lambda: "face recognition" not in alarms(door))
    door.wait_for("welcome")
    assert gone not in {person for _, _, person in in_journal(door)[before:]}
    door.stop()
