"""What a device keeps of the city's gallery: nothing readable, and nothing of who left."""

from __future__ import annotations

import gc
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from agent.base.values import Vector
from agent.gallery.city.copy import CityCopy
from agent.gallery.file.opening import PAGE_BYTES
from agent.gallery.file.sealing import GallerySealer
from agent.gallery.file.store import GalleryStore
from agent.gallery.gallery import Gallery
from agent.hw.keystores.file import FileKeySource
from agent.protocol.galleries.messages import Want
from agent.protocol.galleries.records import key_of
from agent.usecases.rotation import open_ring, rotate
from tests.gallery.test_gallery_at_rest import armoured, text_traces
from tests.link.galleries.scripted.city import ScriptedCity, rows
from tests.link.galleries.scripted.device import NAME, RING, Device
from tests.protocol.town import Town


@pytest.fixture
def city(town: Town) -> ScriptedCity:
    found = ScriptedCity(town)
    records = {
        f"resident-{n}": found.record(
            f"resident-{n}", rows(n, values=128), nickname=f"さくら{n:03d}"
        )
        for n in range(20)
    }
    found.publish(records)
    return found


@pytest.fixture
def device(tmp_path: Path, town: Town, city: ScriptedCity) -> Device:
    found = Device(tmp_path, town.trust, town.device(NAME))
    found.intake.connected(0)
    found.talk(city)
    return found


def on_disk(device: Device) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(device.path.parent.iterdir()) if p.is_file())


def numbers(row: Vector) -> list[bytes]:
    some = row[20:32]
    raw = [some.astype(kind).tobytes() for kind in ("<f4", ">f4", "<f2", "<f8")]
    return [*raw, *(trace for each in raw for trace in armoured(each))]


def secrets_of(city: ScriptedCity) -> list[bytes]:
    keys = city.keys
    found = [keys.content, keys.template, *keys.pseudonyms.values(), RING.receive_key()]
    return [*found, *(trace for each in found for trace in armoured(each))]


@pytest.mark.slow
def test_nothing_of_it_can_be_read_without_the_device_key(
    device: Device, city: ScriptedCity
) -> None:
    """Whole, and half-way through the next version too."""
    changed = {f"new-{n}": city.record(f"new-{n}", rows(50 + n, values=128)) for n in range(30)}
    city.floor = 2
    city.publish(changed)
    device.hear(city)
    count = 0

    def half(answers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        nonlocal count
        count += len(answers)
        return answers if count < 12 else []

    device.talk(city, half)
    assert device.copy.staged()
    content = on_disk(device)
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        own = gallery.load().matrix
    for number in range(20):
        plain = rows(number, values=128)[0]
        traces = [
            *text_traces(f"resident-{number}"),
            *text_traces(f"さくら{number:03d}"),
            *numbers(plain),
            *numbers(city.map.apply(plain[None])[0]),
            *numbers(own[number]),
        ]
        assert not [trace for trace in traces if trace in content]
    assert not [trace for trace in secrets_of(city) if trace in content]
    assert any(trace in content + b"resident-3" for trace in text_traces("resident-3"))


def test_nothing_is_left_of_who_is_gone_nor_of_the_old_content_key(
    device: Device, city: ScriptedCity
) -> None:
    with sqlite3.connect(device.path) as raw:
        before = {
            bytes(row[0]): [bytes(row[1]), bytes(row[2])]
            for row in raw.execute("SELECT ref, wrapped_key, profile FROM person")
        }
        slots: dict[bytes, list[bytes]] = {}
        for slot, sealed in raw.execute("SELECT ref, sealed FROM template"):
            slots.setdefault(bytes(slot), []).append(bytes(sealed))
        sealed_keys = raw.execute("SELECT value FROM meta WHERE key = 'city_keys'").fetchone()[0]
    ref = GallerySealer(RING).ref("resident-3")
    traces = [*before[ref], bytes(sealed_keys)]
    assert all(trace in on_disk(device) for trace in traces)
    city.rekey()
    city.publish(gone=["resident-3"])
    device.hear(city)
    device.talk(city)
    device.copy.sweep()
    content = on_disk(device)
    assert not [trace for trace in traces if trace in content]
    assert ref not in content
    with sqlite3.connect(device.path) as raw:
        left = {bytes(row[0]) for row in raw.execute("SELECT sealed FROM template")}
    wiped = [sealed for rows_ in slots.values() for sealed in rows_ if sealed not in left]
    assert len(wiped) == 2
    assert not [sealed for sealed in wiped if sealed in content]


def test_who_lay_ready_and_is_gone_by_a_delta_leaves_nothing_behind(
    device: Device, city: ScriptedCity
) -> None:
    """Deltas were late, so buckets came; the link fell, and then a delta did lead to the newest."""
    others = {f"q-{n}": city.record(f"q-{n}", rows(60 + n, values=128)) for n in range(20)}
    city.publish({"anna": city.record("anna", rows(50, values=128)), **others})
    device.hear(city)
    for _ in range(3):
        device.sent.clear()
        device.pass_time(70_000)

    def until_anna(answers: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        for answer in answers:
            if key_of("anna")[0] not in device.copy.staged():
                device.give(*answer)
        return []

    device.talk(city, until_anna)
    assert key_of("anna")[0] in device.copy.staged()
    ref = device.store.sealer.ref("anna")
    query = "SELECT wrapped_key, slot FROM staged WHERE ref = ?"
    wrapped, slot = device.store.db.execute(query, [ref]).fetchone()
    query = "SELECT sealed FROM template WHERE ref = ?"
    traces = [wrapped, *(row[0] for row in device.store.db.execute(query, [slot]))]
    assert device.version[0] == 1
    assert len(traces) == 3
    assert all(trace in on_disk(device) for trace in traces)
    device.intake.disconnected()
    device.sent.clear()
    city.publish(gone=["anna", *others])
    city.asked.clear()
    device.intake.connected(device.now_ms)
    device.hear(city)
    device.talk(city)
    assert device.version == (3, city.newest.head.root)
    assert {ask.kind for ask in city.asked if isinstance(ask, Want)} == {"delta"}
    device.copy.sweep()
    content = on_disk(device)
    assert not [trace for trace in (*traces, ref) if trace in content]
    assert device.copy.staged() == {}


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_set_aside_after_damage_does_not_keep_who_is_gone(
    device: Device, city: ScriptedCity, cut: bool
) -> None:
    """With *cut*, power fails between the version without them and the sweep."""
    ref = device.store.sealer.ref("resident-3")
    device.store.overwrite_old_pages()
    _break(device)
    device.intake.connected(0)
    device.sent.clear()
    device.copy.sweep()  # nobody knows yet what was lost: the file stays
    (aside,) = device.path.parent.glob("gallery.db.damaged-*")
    assert ref in aside.read_bytes()
    city.publish(gone=["resident-3"])
    device.hear(city)
    device.talk(city)
    assert device.version == (2, city.newest.head.root)
    if cut:
        device.restart()
    device.copy.sweep()
    assert not list(device.path.parent.glob("gallery.db.damaged-*"))
    assert ref not in on_disk(device)


def _break(device: Device) -> None:
    """Spoil pages in the middle of the closed file, and start on it."""
    device.store.close()
    content = bytearray(device.path.read_bytes())
    middle = len(content) // 2 // PAGE_BYTES * PAGE_BYTES
    content[middle : middle + PAGE_BYTES] = bytes(PAGE_BYTES)
    device.path.write_bytes(content)
    device.restart()
    assert device.store.salvaged is not None


def test_templates_of_a_replaced_version_are_overwritten(
    device: Device, city: ScriptedCity
) -> None:
    with sqlite3.connect(device.path) as raw:
        before = [bytes(row[0]) for row in raw.execute("SELECT sealed FROM template")]
    city.epoch = 2
    city.versions.clear()
    names = [f"resident-{n}" for n in range(20)]
    city.publish({n: city.record(n, rows(200 + i, values=128)) for i, n in enumerate(names)})
    device.hear(city)
    device.talk(city)
    device.copy.sweep()
    content = on_disk(device)
    assert not [sealed for sealed in before if sealed in content]


@pytest.mark.slow
def test_another_template_key_of_the_device_keeps_the_citys_version_whole(
    device: Device, city: ScriptedCity
) -> None:
    """What was staged under the old one is fetched again; scores stay as they are."""
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        probe = gallery.protection.apply(rows(4, values=128))
        before = gallery.load().matrix @ probe.T
        gallery.rekey()
        after = gallery.load().matrix @ gallery.protection.apply(rows(4, values=128)).T
    assert np.abs(before - after).max() < 1e-5
    device.intake.refresh(0)
    assert device.copy.root == city.newest.head.root
    city.publish({"new": city.record("new", rows(90, values=128))})
    device.hear(city)
    device.talk(city)
    assert device.version == (2, city.newest.head.root)
    with Gallery(device.path, RING, "p", domain="bus") as gallery:
        assert gallery.verify().sound


@pytest.mark.slow
def test_a_new_device_key_carries_version_keys_and_who_is_withheld(
    tmp_path: Path, town: Town, city: ScriptedCity
) -> None:
    state = tmp_path / "state"
    source = FileKeySource(state / "keys")
    ring = open_ring(source, state, may_create=True)
    joined = Device(state, town.trust, town.device(NAME), ring=ring)
    joined.intake.connected(0)
    joined.talk(city)
    with Gallery(joined.path, ring, "p", domain="bus") as gallery:
        gallery.revoke("resident-5")
    joined.store.close()
    # A change of the key waits for everybody who holds the old one.
    del ring, gallery, joined
    gc.collect()
    rotate(source, state)
    ring = open_ring(source, state, may_create=False)
    store = GalleryStore(state / "gallery.db", ring, domain="bus")
    copy = CityCopy(store, "bus")
    assert copy.version is not None
    assert copy.root == copy.version.root == city.newest.head.root
    assert copy.keys == city.keys
    store.close()
