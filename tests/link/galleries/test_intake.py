"""A device's gallery is one whole signed version, whatever it is sent, and finds to the newest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agent.gallery.gallery import Gallery
from agent.protocol import topics
from agent.protocol.galleries.messages import Want
from agent.protocol.galleries.records import key_of
from agent.recognition.fusion import template
from tests.link.galleries.scripted.city import ScriptedCity, rows, wall_ms
from tests.link.galleries.scripted.device import NAME, RING, TIMING, Device
from tests.protocol.town import Town


@pytest.fixture
def city(town: Town) -> ScriptedCity:
    found = ScriptedCity(town)
    found.publish({f"r-{n}": found.record(f"r-{n}", rows(n)) for n in range(40)})
    return found


@pytest.fixture
def device(tmp_path: Path, town: Town) -> Device:
    return Device(tmp_path, town.trust, town.device(NAME))


def joined(device: Device, city: ScriptedCity) -> Device:
    device.intake.connected(device.now_ms)
    device.talk(city)
    assert in_step(device, city)
    return device


def in_step(device: Device, city: ScriptedCity) -> bool:
    head = city.newest.head
    return (
        device.version == (head.version, head.root)
        and device.copy.root == head.root
        and {key_of(name) for name in device.people()} == set(city.residents)
    )


def wants(city: ScriptedCity) -> list[tuple[str, int]]:
    return [(a.kind, len(a.numbers)) for a in city.asked if isinstance(a, Want)]


def test_an_empty_device_takes_the_whole_gallery_and_has_it_confirmed(
    device: Device, city: ScriptedCity
) -> None:
    joined(device, city)
    assert device.proofs == [0]
    assert wants(city)[0] == ("index", 0)
    assert {kind for kind, _ in wants(city)} == {"index", "bucket"}


def test_probes_find_residents_as_plain_embeddings_would(
    device: Device, city: ScriptedCity
) -> None:
    """City's map, float16, this device's map: scores move by less than 1e-3."""
    joined(device, city)
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        found = gallery.load(purpose="bus")
        probes = gallery.protection.apply(rows(3))
    own = found.matrix[found.owners == found.ids.index("r-3")]
    plain = template(rows(3), [1.0] * len(rows(3)))  # what loading makes of a person's templates
    assert np.abs(own @ probes.T - plain @ rows(3).T).max() < 1e-3
    assert len(found.ids) == 40


def test_a_new_version_comes_as_a_delta(device: Device, city: ScriptedCity) -> None:
    joined(device, city)
    city.asked.clear()
    city.publish({"r-1": city.record("r-1", rows(101)), "new": city.record("new", rows(102))})
    city.publish(gone=["r-2", "r-3"])
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    assert wants(city) == [("delta", 0)]
    assert device.left == {key_of("r-2"), key_of("r-3")}
    assert device.people().isdisjoint({"r-2", "r-3"})


def test_who_is_gone_is_told_before_the_disk_is_asked(device: Device, city: ScriptedCity) -> None:
    """A full disk does not keep a revoked person boarding."""
    joined(device, city)
    city.publish(gone=["r-5"])
    device.store.db.execute("PRAGMA query_only = ON")
    device.hear(city)
    device.talk(city)
    assert device.left == {key_of("r-5")}
    assert device.problems
    device.store.db.execute("PRAGMA query_only = OFF")
    device.pass_time(60_000)
    device.talk(city)
    assert in_step(device, city)


def test_below_the_floor_only_buckets_that_differ_are_fetched(
    device: Device, city: ScriptedCity
) -> None:
    joined(device, city)
    city.floor = 5
    city.asked.clear()
    for _ in range(5):
        city.publish(gone=["r-7"])
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    assert wants(city) == [("index", 0), ("bucket", 1)]


def test_a_delta_that_does_not_lead_to_the_root_is_made_good_by_buckets(
    device: Device, city: ScriptedCity
) -> None:
    joined(device, city)
    version = city.publish({"x": city.record("x", rows(1)), "y": city.record("y", rows(2))})
    del version.changes[0]
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    assert device.intake.refused["gallery delta"] == 1


def test_rows_that_do_not_open_are_sent_again(device: Device, city: ScriptedCity) -> None:
    joined(device, city)
    city.asked.clear()
    device.store.db.execute("UPDATE template SET sealed = zeroblob(40) WHERE id = 9")
    device.store.db.execute(
        "UPDATE person SET profile = x'00' WHERE ref IN (SELECT ref FROM person LIMIT 1)"
    )
    device.store.db.conn.commit()
    with Gallery(device.path, RING, "p") as gallery:
        assert gallery.drop_damaged() == 2
    device.intake.refresh(device.now_ms)
    device.talk(city)
    assert in_step(device, city)
    assert sum(count for kind, count in wants(city) if kind == "bucket") <= 2
    with Gallery(device.path, RING, "p") as gallery:
        assert gallery.verify().sound


def test_an_older_head_is_refused(device: Device, city: ScriptedCity) -> None:
    old = city.newest.message
    city.publish(gone=["r-1"])
    joined(device, city)
    before = device.version
    device.give(topics.HEAD.of(NAME), old)
    device.talk(city)
    assert device.version == before
    assert device.intake.refused["kp1-head (older)"] == 1
    device.restart()
    device.intake.connected(0)
    device.give(topics.HEAD.of(NAME), old)
    assert device.intake.head is None
    assert device.intake.refused["kp1-head (older)"] == 1


def test_a_greater_epoch_replaces_everything(device: Device, city: ScriptedCity) -> None:
    joined(device, city)
    city.epoch = 2
    city.versions.clear()
    city.residents.clear()
    city.publish({"only": city.record("only", rows(5))})
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    assert device.people() == {"only"}


def test_another_gallerys_head_is_refused(device: Device, city: ScriptedCity, town: Town) -> None:
    hall = ScriptedCity(town, "hall")
    hall.publish({"h": hall.record("h", rows(1))})
    joined(device, city)
    before = device.version
    device.hear(hall)
    assert device.version == before
    assert device.intake.refused["kp1-head"] == 1


def test_only_the_answer_to_an_own_hello_is_proof(device: Device, city: ScriptedCity) -> None:
    """Neither one for another device or of another town, nor the same one twice."""
    device.intake.connected(0)
    hello = device.sent[0]
    device.talk(city)
    answers = [p for t, p in city.answer(NAME, hello) if t == topics.NOW.of(NAME)]
    count = len(device.proofs)
    for _ in range(3):
        device.give(topics.NOW.of(NAME), answers[0])
    assert len(device.proofs) == count
    assert device.intake.refused["kp1-now"] == 3


def test_proof_of_a_version_not_here_yet_does_not_count(device: Device, city: ScriptedCity) -> None:
    joined(device, city)
    city.publish(gone=["r-1"])
    device.proofs.clear()
    device.pass_time(600_000)
    for message in list(device.sent):
        for topic, payload in city.answer(NAME, message):
            if topic == topics.NOW.of(NAME):
                device.give(topic, payload)
    assert device.proofs == []


def test_a_new_content_key_is_fetched_and_the_old_one_forgotten(
    device: Device, city: ScriptedCity
) -> None:
    joined(device, city)
    old = city.keys
    city.rekey()
    city.publish(gone=["r-1"])
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)
    kept = device.copy.keys
    assert kept is not None
    assert kept.content == city.keys.content != old.content


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("later_ms", [100, 900, 300_000])
def test_a_lost_hello_does_not_hold_back_the_keys_of_an_erasure(
    device: Device, city: ScriptedCity, answered: bool, later_ms: int
) -> None:
    """Every erasure makes another content key; *answered*: the hello after the lost one was."""
    joined(device, city)
    for _ in range(4):  # the city starts again, which takes a while
        device.pass_time(600_000)
        device.sent.clear()
    if answered:
        device.pass_time(600_000)
        device.talk(city)
        assert device.proofs[-1] == device.now_ms
    device.now_ms += later_ms
    city.rekey()
    city.publish(gone=["r-1"])
    device.hear(city)
    device.talk(city)
    if not in_step(device, city):
        device.pass_time(TIMING.ask_ms - later_ms)
        device.talk(city)
    assert in_step(device, city)


def test_old_keys_cannot_be_put_back(device: Device, city: ScriptedCity, town: Town) -> None:
    joined(device, city)
    device.sent.clear()
    device.intake.connected(0)
    stale = city.wrapped(NAME, device.intake._public_key)
    city.rekey()
    city.publish(gone=["r-1"])
    device.hear(city)
    device.talk(city)
    device.give(f"kp1/{NAME}/d/gal/key", stale)
    assert device.copy.keys is not None
    assert device.copy.keys.key == city.keys.key
    assert device.intake.refused["kp1-key"] == 1


def test_after_a_restart_only_buckets_that_are_not_staged_are_fetched(
    device: Device, city: ScriptedCity
) -> None:
    """The power goes after some twenty buckets; the gallery is the old one until all are there."""
    device.intake.connected(0)
    answered = 0

    def some(answers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        nonlocal answered
        through = answers[: max(0, 22 - answered)]
        answered += len(through)
        return through

    device.talk(city, some)
    assert device.version == (0, "")
    assert device.people() == set()
    staged = len(device.copy.staged())
    assert 10 < staged < 25
    device.restart()
    city.asked.clear()
    joined(device, city)
    buckets = sum(count for kind, count in wants(city) if kind == "bucket")
    assert buckets == len({key[0] for key in city.residents}) - staged


def test_what_is_lost_is_asked_for_again(device: Device, city: ScriptedCity) -> None:
    chance = np.random.default_rng(5)
    device.intake.connected(0)

    def losing(answers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        return [a for a in answers if chance.random() < 0.5]

    for _ in range(100):
        device.talk(city, losing)
        device.pass_time(61_000)
    assert in_step(device, city)


def test_erased_here_they_do_not_come_back_with_a_repair(
    device: Device, city: ScriptedCity
) -> None:
    joined(device, city)
    with Gallery(device.path, RING, "p") as gallery:
        assert gallery.revoke("r-9")
    device.intake.refresh(0)
    device.talk(city)
    assert device.copy.root == city.newest.head.root
    assert "r-9" not in device.people()
    city.floor = 9
    for _ in range(9):
        city.publish({"r-9": city.record("r-9", rows(999))})
    device.hear(city)
    device.talk(city)
    assert device.copy.root == city.newest.head.root
    assert "r-9" not in device.people()
    # Gone at the city too, and enrolled there anew: that is another decision of theirs.
    city.publish(gone=["r-9"])
    device.hear(city)
    device.talk(city)
    city.publish({"r-9": city.record("r-9", rows(9))})
    device.hear(city)
    device.talk(city)
    assert in_step(device, city)


def test_people_of_the_time_before_the_city_are_not_kept(
    tmp_path: Path, town: Town, city: ScriptedCity
) -> None:
    """They agreed to nothing at the city."""
    with Gallery(tmp_path / "gallery.db", RING, "p", domain="bus") as gallery:
        gallery.enroll("old", gallery.protection.apply(rows(1)), now_ms=1)
    device = joined(Device(tmp_path, town.trust, town.device(NAME)), city)
    assert "old" not in device.people()


def test_the_citys_time_is_heard_with_its_word_and_from_nothing_stale(
    device: Device, city: ScriptedCity
) -> None:
    """A device without a clock knows the time by it; what was kept and sent again says nothing."""
    heard = len(device.times)
    device.intake.disconnected()
    device.intake.connected(device.now_ms)
    hello = device.sent.pop()
    topic, now = city.answer(NAME, hello)[0]
    device.give(topic, now)
    assert len(device.times) == heard + 1
    assert abs(device.times[-1] - wall_ms()) < 60_000
    device.give(topic, now)
    assert len(device.times) == heard + 1
