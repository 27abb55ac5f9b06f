"""Who was enrolled at this device: known at once, until the city has a word on them, or had one."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.gallery.city import meta as citymeta
from agent.gallery.gallery import Gallery
from agent.link.galleries.intake import GalleryIntake
from agent.protocol.galleries.records import key_of
from agent.recognition.fusion import fused
from tests.link.galleries.scripted.city import ScriptedCity, rows, wall_ms
from tests.link.galleries.scripted.device import NAME, RING, Device
from tests.link.galleries.test_intake import in_step, joined
from tests.protocol.town import Town

DAY_MS = 86_400_000


@pytest.fixture
def city(town: Town) -> ScriptedCity:
    found = ScriptedCity(town)
    found.publish({f"r-{n}": found.record(f"r-{n}", rows(n)) for n in range(6)})
    return found


@pytest.fixture
def device(tmp_path: Path, town: Town, city: ScriptedCity) -> Device:
    return joined(Device(tmp_path, town.trust, town.device(NAME)), city)


def enrol(device: Device, *names: str, provisional: bool = True) -> None:
    with Gallery(device.path, RING, "p") as gallery:
        for name in names:
            mapped = gallery.protection.apply(rows(77))
            gallery.enroll(name, mapped, now_ms=1, provisional=provisional)
    device.intake.refresh(device.now_ms)


def revoke(device: Device, name: str) -> None:
    with Gallery(device.path, RING, "p") as gallery:
        assert gallery.revoke(name)
    device.intake.refresh(device.now_ms)


def waiting(device: Device) -> set[str]:
    with Gallery(device.path, RING, "p") as gallery:
        return {p.id for p in gallery.people() if p.source == "provisional"}


def knows(device: Device, number: int) -> set[str]:
    """Whom the door would find for the face of *number*."""
    with Gallery(device.path, RING, "p") as gallery:
        found = gallery.load()
        scores = found.matrix @ gallery.protection.apply(fused(rows(number)))[0]
    return {found.ids[owner] for owner in found.owners[scores > 0.9]}


def by_buckets(device: Device, city: ScriptedCity) -> None:
    """Another version comes, to which no deltas lead from what is here."""
    city.floor = city.newest.head.version
    number = city.newest.head.version
    city.publish({f"new-{number}": city.record(f"new-{number}", rows(500 + number))})
    device.hear(city)
    device.talk(city)


def later(device: Device, city: ScriptedCity, monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """The city is heard when its clock is *days* on."""
    ahead = DAY_MS * days
    real = GalleryIntake._take_now

    def hear(self: GalleryIntake, payload: bytes, now_ms: int, wall_ms: int) -> None:
        real(self, payload, now_ms, wall_ms + ahead)

    with monkeypatch.context() as patch:
        patch.setattr(GalleryIntake, "_take_now", hear)
        patch.setattr("tests.link.galleries.scripted.city.wall_ms", lambda: wall_ms() + ahead)
        device.pass_time(600_000)
        device.talk(city)


def test_they_stay_while_deltas_tell_of_others(device: Device, city: ScriptedCity) -> None:
    enrol(device, "guest", "r-1")
    assert device.copy.root == city.newest.head.root
    city.publish({"other": city.record("other", rows(6))})
    device.hear(city)
    device.talk(city)
    assert waiting(device) == {"guest", "r-1"}
    assert knows(device, 77) == {"guest", "r-1"}
    city.publish({"guest": city.record("guest", rows(77))}, gone=["r-1"])
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    assert waiting(device) == set()


def test_whom_the_city_refused_or_erased_does_not_outlive_a_version_by_buckets(
    device: Device, city: ScriptedCity
) -> None:
    enrol(device, "refused")
    city.publish(gone=["refused"])
    by_buckets(device, city)
    assert in_step(device, city)
    assert knows(device, 77) == set()


def test_a_stranger_enrolled_as_a_resident_is_put_right_by_a_version_by_buckets(
    device: Device, city: ScriptedCity
) -> None:
    enrol(device, "r-1")
    city.publish({"r-1": city.residents[key_of("r-1")]})  # the city's word: it is as it was
    by_buckets(device, city)
    assert in_step(device, city)
    assert (knows(device, 77), knows(device, 1)) == (set(), {"r-1"})


def test_a_repair_of_the_version_in_force_leaves_them(device: Device, city: ScriptedCity) -> None:
    enrol(device, "guest", "r-1")
    device.store.db.execute("DELETE FROM person WHERE ref = ?", [device.store.sealer.ref("r-2")])
    device.store.db.conn.commit()
    with device.store.writing():
        pass
    device.intake.refresh(device.now_ms)
    device.talk(city)
    assert device.copy.root == city.newest.head.root
    assert waiting(device) == {"guest", "r-1"}
    assert "r-2" in device.people()


def test_erased_here_and_enrolled_again_they_renew_and_can_be_gone_by_buckets(
    device: Device, city: ScriptedCity
) -> None:
    revoke(device, "r-1")
    enrol(device, "r-1")
    assert device.copy.root == city.newest.head.root
    assert knows(device, 77) == {"r-1"}
    city.publish(gone=["r-1"])
    by_buckets(device, city)
    assert in_step(device, city)
    assert device.problems == []


def test_erased_here_and_enrolled_again_they_are_the_citys_when_it_takes_them(
    device: Device, city: ScriptedCity
) -> None:
    revoke(device, "r-1")
    enrol(device, "r-1")
    city.publish({"r-1": city.record("r-1", rows(77))})
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    assert waiting(device) == set()


def test_without_a_word_of_the_city_they_lapse(
    device: Device, city: ScriptedCity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven days after the city is heard first, by its clock; a resident is theirs again."""
    enrol(device, "guest", "r-1")
    later(device, city, monkeypatch, 30)
    later(device, city, monkeypatch, 36)
    assert knows(device, 77) == {"guest", "r-1"}
    enrol(device, "guest-2")
    device.restart()
    device.intake.connected(device.now_ms)
    later(device, city, monkeypatch, 36)
    later(device, city, monkeypatch, 37)
    assert waiting(device) == {"guest-2"}
    assert knows(device, 1) == {"r-1"}
    assert device.copy.root == city.newest.head.root
    assert citymeta.WAIT_MS == 7 * DAY_MS


def test_nobody_is_the_citys_who_was_enrolled_without_it(
    device: Device, city: ScriptedCity
) -> None:
    enrol(device, "r-1", provisional=False)
    device.talk(city)
    assert in_step(device, city)
    assert knows(device, 1) == {"r-1"}
