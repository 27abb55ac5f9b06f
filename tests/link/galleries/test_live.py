"""Through a real broker: a version comes, a revocation is quick, a silent city is no proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.gallery.gallery import Gallery
from agent.protocol import topics
from agent.protocol.galleries.messages import Hello
from tests.link.galleries.scripted.city import ScriptedCity, rows
from tests.link.galleries.scripted.device import RING
from tests.link.galleries.scripted.live import LiveCity, LiveDevice, talking
from tests.mosquitto import Mosquitto
from tests.protocol.town import Town
from tests.waiting import never, until


@pytest.fixture
def city(town: Town) -> ScriptedCity:
    found = ScriptedCity(town)
    found.publish({f"r-{n}": found.record(f"r-{n}", rows(n)) for n in range(30)})
    return found


def people(device: LiveDevice) -> set[str]:
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        return set(gallery.load(purpose="bus").ids)


def test_a_version_comes_and_is_confirmed_at_once(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    """The hello after it carries its root: the city's receipt. Until then faces are off."""
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        assert "no gallery has come" in device.downlink.trouble()
        live.announce()
        until(lambda: not device.downlink.trouble(), "the gallery, confirmed")
        assert device.version == 1
        root = city.newest.head.root
        assert any(isinstance(a, Hello) and a.root == root for a in city.asked)
        assert device.downlink.standing.gallery_root == root
    assert people(device) == {f"r-{n}" for n in range(30)}


def test_a_revoked_resident_is_not_admitted_a_moment_after_the_head(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        live.announce()
        until(lambda: not device.downlink.trouble())
        admission = device.downlink.admission
        assert admission.admits("r-3")
        city.publish(gone=["r-3"])
        live.announce()
        until(lambda: not admission.admits("r-3"), "no longer admitted")
        assert admission.admits("r-4")
        until(lambda: device.version == 2)
    assert "r-3" not in people(device)


def test_whom_the_city_refused_may_enrol_again_without_a_restart(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    """The version that says so has the root of the one before: they were never in it."""
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        live.announce()
        until(lambda: not device.downlink.trouble())
        with Gallery(device.path, RING, "p", domain="bus") as gallery:
            mapped = gallery.protection.apply(rows(77))
            gallery.enroll("guest", mapped, now_ms=1, provisional=True)
        root = city.newest.head.root
        assert city.publish(gone=["guest"]).head.root == root
        live.announce()
        until(lambda: device.version == 2)
        assert "guest" not in people(device)
        admission = device.downlink.admission
        # As whoever searches the gallery does it: what is read now is without them.
        until(admission.reading, "known to be out of the gallery")
        admission.reread(admission.reading(), {})
        assert admission.admits("guest")


def test_after_days_away_nobody_is_admitted_before_the_city_was_heard(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        live.announce()
        until(lambda: not device.downlink.trouble())
    city.publish(gone=["r-3"])
    later = LiveDevice(tmp_path, "bus-7", mosquitto.port, town)
    admitted: list[bool] = []
    with LiveCity(city, mosquitto.port, ["bus-7"]), later:
        until(
            lambda: later.version == 2,
            meanwhile=lambda: admitted.append(later.downlink.admission.admits("r-3")),
        )
        until(lambda: later.downlink.admission.admits("r-4"))
    assert True not in admitted


def test_a_city_that_does_not_answer_confirms_nothing(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    """The broker is there and even has the old head, retained."""
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        live.announce()
        until(lambda: not device.downlink.trouble())
    city.silent = True
    with (
        LiveCity(city, mosquitto.port, []),
        LiveDevice(tmp_path, "bus-7", mosquitto.port, town) as later,
    ):
        until(lambda: later.version == 1)
        until(lambda: later.supervisor.status.connected)
        never(lambda: later.downlink.admission.admits("r-1"))
        assert "not on yet" in later.downlink.trouble()


def test_a_newer_version_that_is_known_and_does_not_come_keeps_faces_off_after_a_start(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    """However short the wait for the city is: it was heard, and somebody may be gone in it."""
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        live.announce()
        until(lambda: not device.downlink.trouble())
    city.publish(gone=["r-3"])
    city.bodiless = True
    later = LiveDevice(tmp_path, "bus-7", mosquitto.port, town, confirm_ms=200)
    with LiveCity(city, mosquitto.port, ["bus-7"]), later:
        until(lambda: "newer version" in later.downlink.trouble())
        never(lambda: later.downlink.admission.admits("r-1"), seconds=0.5)
        city.bodiless = False
        until(lambda: later.downlink.admission.admits("r-1"))
        assert not later.downlink.admission.admits("r-3")


def test_a_flood_of_parts_is_counted_and_harms_nothing(
    tmp_path: Path, city: ScriptedCity, mosquitto: Mosquitto, town: Town
) -> None:
    with talking(tmp_path, city, mosquitto.port, town) as (live, device):
        live.announce()
        until(lambda: not device.downlink.trouble())
        for part in city.body("delta", 1) * 300:
            live._out.put((topics.BODY.of("bus-7"), part, False))
        city.publish(gone=["r-1"])
        live.announce()
        until(lambda: device.version == 2)
        status = device.downlink.status()
        assert status["refused"]["gallery part"] + status["dropped"] == 300
