"""Who gets what: devices of the town alone, for their purpose, and not once they are revoked."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent.base.errors import MessageError
from agent.base.values import Message
from agent.cityos.galleries import receipts
from agent.keys.certificates import new_key
from agent.protocol import topics
from agent.protocol.galleries.bodies import read_part, unseal
from agent.protocol.galleries.messages import Want, sign_want
from agent.protocol.galleries.records import key_of
from agent.protocol.signed import Signer
from tests.galleries.conftest import City, noting, now_ms
from tests.galleries.device import Device


def kinds(sent: list[Message]) -> list[str]:
    return [message.topic.split("/", 2)[2] for message in sent]


def test_a_hello_is_answered_with_proof_keys_and_head_as_needed(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    first = city.talk(device)
    assert set(kinds(first)) == {"d/gal/now", "d/gal/head", "d/gal/key", "d/gal/body"}
    assert all(message.retain == message.topic.endswith("/head") for message in first)
    again = city.talk(device)
    assert kinds(again) == ["d/gal/now"]
    assert device.fresh[-1].root == device.root


def test_a_bus_never_gets_residents_of_the_halls(city: City) -> None:
    city.enrol(["anna"], "bus")
    city.enrol(["ben"], "hall")
    city.publish("bus")
    city.publish("hall")
    device = city.device("bus-1", "bus")
    city.announce()
    curious = Device("bus-1", "hall", device.signer, city.trust, now_ms())
    assert [m for m in city.talk(curious) if m.topic.startswith("kp1/bus-1/")] == []
    want = Want("bus-1", "hall", 1, 1, "bucket", numbers=(key_of("ben")[0],))
    city.handler.take([Message(topics.ASKS.of("bus-1"), sign_want(want, device.signer))], now_ms())
    city.handler.turn()
    assert city.handler.due(now_ms()) == []
    assert city.handler.status.refused == 2
    city.registry.serve("bus-1", "hall", noting)
    assert "d/gal/now" in kinds(city.talk(curious))
    assert curious.ids == {"ben"}


def test_asks_that_are_not_signed_by_their_device_are_refused(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    one = city.device("bus-1")
    city.device("bus-2")
    one.hello()
    hello = one.out.pop()
    asks = [
        Message(topics.ASKS.of("bus-2"), hello.payload),  # another's topic
        Message(topics.ASKS.of("bus-1"), hello.payload[:-4] + b"AAAA"),
        Message(topics.ASKS.of("bus-1"), hello.payload[:100]),
        Message(topics.ASKS.of("bus-1"), b""),
        Message("nonsense", hello.payload),
    ]
    city.handler.take(asks, now_ms())
    city.handler.turn()
    city.handler.due(now_ms())
    assert city.handler.status.refused == len(asks)
    assert city.handler.status.hellos == 0


def test_a_certificate_the_registry_does_not_know_gets_nothing(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    city.device("bus-1")
    city.announce()
    key = new_key()
    public = load_pem_private_key(key, None).public_key()
    forged = city.authority.sign_device(public, "bus-1", "other")  # type: ignore[arg-type]
    signer = Signer(forged.public_bytes(Encoding.PEM), key)
    assert kinds(city.talk(Device("bus-1", "bus", signer, city.trust, now_ms()))) == []
    assert city.handler.status.refused == 1


def test_a_revoked_device_is_keyed_out_and_the_others_go_on(city: City) -> None:
    city.enrol(["anna", "ben"])
    city.publish()
    stolen, kept = city.device("bus-1"), city.device("bus-2")
    city.talk(stolen, kept)
    assert stolen.keys is not None
    old = stolen.keys
    city.registry.revoke("bus-1", now_ms(), noting)
    city.keys.new_content("bus")
    city.enrol(["chie"])
    city.publish()
    sent = city.talk(stolen, kept)
    assert {m.topic.split("/")[1] for m in sent} == {"bus-2"}
    assert kept.ids == {"anna", "ben", "chie"}
    assert kept.keys is not None
    assert kept.keys.key != old.key
    assert city.keys.content_of("bus", old.key) is None  # destroyed
    # What it may have overheard does not open with what it has.
    bodies = [m.payload for m in sent if m.topic == topics.BODY.of("bus-2")]
    assert bodies
    part = read_part(bodies[0])
    with pytest.raises(MessageError):
        unseal(part.label, part.content, old.content)


def test_bodies_are_encrypted_once_for_all_devices(city: City) -> None:
    city.enrol([f"p{n}" for n in range(100)])
    city.publish()
    devices = [city.device(f"bus-{n}") for n in range(5)]
    city.talk(*devices)
    assert all(len(device.ids) == 100 for device in devices)
    status = city.handler.status
    assert status.bodies == 5 * status.bodies_made


def test_a_device_may_ask_for_more_while_some_is_on_its_way(city: City) -> None:
    city.enrol([f"p{n}" for n in range(200)])
    city.publish()
    device = city.device("bus-1")
    city.announce()
    numbers = sorted({key_of(f"p{n}")[0] for n in range(200)})[:40]
    for some in (numbers[:25], numbers[20:], numbers[:5]):
        want = Want("bus-1", "bus", 1, 1, "bucket", numbers=tuple(some))
        message = Message(topics.ASKS.of("bus-1"), sign_want(want, device.signer))
        city.handler.take([message], now_ms())
    came = []
    while parts := city.announce():
        came += [read_part(part.payload).label.number for part in parts]
    assert sorted(came) == numbers


def test_a_want_of_an_older_version_is_answered_with_the_head(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    city.enrol(["ben"])
    city.publish()
    want = Want("bus-1", "bus", 1, 1, "bucket", numbers=(1,))
    city.handler.take([Message(topics.ASKS.of("bus-1"), sign_want(want, device.signer))], now_ms())
    city.handler.turn()
    assert set(kinds(city.handler.due(now_ms()))) == {"d/gal/head"}


def test_a_new_version_is_told_to_every_active_device_of_the_gallery_once(city: City) -> None:
    city.enrol(["anna"])
    for name, gallery in (("bus-1", "bus"), ("bus-2", "bus"), ("bus-3", "bus"), ("hall-1", "hall")):
        city.device(name, gallery)
    city.registry.revoke("bus-3", now_ms(), noting)
    city.publish("bus")
    other = city.worker()
    city.handler.turn()
    other.turn()
    sent = city.handler.due(now_ms()) + other.due(now_ms())
    assert sorted(m.topic for m in sent) == ["kp1/bus-1/d/gal/head", "kp1/bus-2/d/gal/head"]
    assert all(m.retain for m in sent)


def test_only_a_root_that_was_signed_counts_as_proof(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    with city.engine.connect() as db:
        held = receipts.holdings(db, "bus")["bus-1"]
        assert (held.position, held.proven) == ((1, 1), True)
    device.root = "ab" * 32
    city.talk(device)
    with city.engine.connect() as db:
        assert not receipts.holdings(db, "bus")["bus-1"].proven
    device.root = device.fresh[-1].root
    city.talk(device)
    with city.engine.connect() as db:
        assert receipts.holdings(db, "bus")["bus-1"].proven


def test_an_old_head_said_again_moves_no_device_back(city: City) -> None:
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    old = [m for m in city.talk(device) if m.topic.endswith("/head")]
    city.withdraw("anna", "bus", now_ms())
    city.publish()
    city.talk(device)
    assert device.ids == set()
    for message in old:
        device.receive(message)
    city.talk(device, greet=False)
    assert device.ids == set()
    assert device.have == (1, 2)


def test_a_flood_of_asks_is_bounded(sqlite_city: City) -> None:
    city = sqlite_city
    device = city.device("bus-1")
    device.hello()
    ask = device.out.pop()
    city.handler.take([ask] * 30_000, now_ms())
    assert city.handler.status.refused == 20_000


def test_mutated_asks_are_refused_and_change_nothing(sqlite_city: City) -> None:
    city = sqlite_city
    city.enrol(["anna"])
    city.publish()
    device = city.device("bus-1")
    city.talk(device)
    with city.engine.connect() as db:
        before = receipts.holdings(db, "bus")
    device.hello()
    want = Want("bus-1", "bus", 1, 1, "bucket", numbers=tuple(range(32)))
    good = [device.out.pop().payload, sign_want(want, device.signer)]
    rng = random.Random(7)
    status = city.handler.status
    for number in range(3000):
        broken = bytearray(good[number % 2])
        for _ in range(rng.choice((1, 1, 2, 8))):
            # Not the last letter: four of its bits mean nothing (base64 of 64 bytes).
            at = rng.randrange(max(1, len(broken) - 1))
            change = rng.choice(("set", "cut", "double"))
            if change == "set":
                broken[at] = (broken[at] + rng.randrange(1, 256)) % 256
            elif change == "cut":
                del broken[at : at + rng.randrange(1, 40)]
            else:
                broken[at:at] = broken[at : at + 40]
            if not broken:
                break
        city.handler.take([Message(topics.ASKS.of("bus-1"), bytes(broken))], now_ms())
    city.handler.turn()
    assert city.handler.due(now_ms()) == []
    after = city.handler.status
    assert (after.hellos, after.wants) == (status.hellos, status.wants)
    assert after.refused == status.refused + 3000
    with city.engine.connect() as db:
        assert receipts.holdings(db, "bus") == before
