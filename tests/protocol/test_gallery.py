"""Galleries on the wire: whole, true, for one receiver, and nothing else is accepted."""

from __future__ import annotations

import hashlib
import random
import time

import numpy as np
import pytest

from agent.base.errors import MessageError
from agent.base.values import Vector
from agent.protocol import hpke as sealing
from agent.protocol.consent import Consent, EnrolmentRecord, open_enrolment, seal_enrolment
from agent.protocol.galleries import bodies, records
from agent.protocol.galleries import messages as gallery
from tests.protocol.town import Town

NOW_MS = time.time_ns() // 1_000_000
KEY = bytes(range(8))
LABEL = bodies.Label("bus", 7, 3, "bucket", 9, KEY)
CHANCE = random.Random(20261128)


def templates(count: int, values: int = 512) -> Vector:
    rows = np.random.default_rng(count).normal(size=(count, values)).astype(np.float32)
    unit: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def record(name: str = "r-1", count: int = 3) -> records.Record:
    return records.Record(
        name, ("bus",), "はな", linked=True, expires_ms=NOW_MS, templates={"p": templates(count)}
    )


def head() -> gallery.Head:
    root = "ab" * 32
    return gallery.Head("bus", 7, 3, root, root, 1, 1, NOW_MS, KEY, NOW_MS)


def test_a_record_comes_back_with_scores_as_they_were() -> None:
    before = record()
    after = records.decode_record(records.encode_record(before))
    assert (after.id, after.purposes, after.nickname) == ("r-1", ("bus",), "はな")
    assert (after.linked, after.expires_ms) == (True, NOW_MS)
    cosines = before.templates["p"] @ templates(50).T
    assert np.abs(after.templates["p"] @ templates(50).T - cosines).max() < 1e-4


def test_two_spellings_of_an_id_are_one_resident() -> None:
    assert records.key_of("か\u3099") == records.key_of("が")
    composed = records.Record("か\u3099", ("bus",), templates={"p": templates(1)})
    assert records.decode_record(records.encode_record(composed)).id == "が"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0\0",
        lambda data: data.replace(b'"linked":true', b'"linked":1'),
        lambda data: data.replace(b'["bus"]', b"[]"),
        lambda data: data.replace(b'["bus"]', b'["bus","bus"]'),
        lambda data: data.replace(b'["bus"]', b'["tram"]'),
        lambda data: data.replace(b'"count":3', b'"count":99'),
        lambda data: data[: data.index(b"\n") + 1] + b"\xff" * (3 * 512 * 2),  # all NaN
        lambda data: data[: data.index(b"\n") + 1] + bytes(3 * 512 * 2),  # of length 0
        lambda data: data.replace(b"\n", b" ", 1),
        lambda data: data[:0],
    ],
)
def test_a_spoilt_record_is_refused(spoil: object) -> None:
    with pytest.raises(MessageError):
        records.decode_record(spoil(records.encode_record(record())))  # type: ignore[operator]


def test_the_root_follows_from_who_is_in_whatever_the_order() -> None:
    digests = {CHANCE.randbytes(32): CHANCE.randbytes(32) for _ in range(500)}
    turned = dict(reversed(digests.items()))
    assert records.bucket_digests(digests) == records.bucket_digests(turned)
    root = records.root_of(records.bucket_digests(digests))
    for key in list(digests)[:20]:
        less = {other: digest for other, digest in digests.items() if other != key}
        assert records.root_of(records.bucket_digests(less)) != root
        changed = {**digests, key: CHANCE.randbytes(32)}
        found = records.bucket_digests(changed)
        assert records.root_of(found) != root
        differing = [
            n for n, (a, b) in enumerate(zip(found, records.bucket_digests(digests), strict=True))
            if a != b
        ]  # fmt: skip
        assert differing == [key[0]]


def test_a_body_opens_only_as_what_it_is_and_with_its_key() -> None:
    key = CHANCE.randbytes(32)
    sealed = bodies.seal(LABEL, b"content", key)
    assert bodies.unseal(LABEL, sealed, key) == b"content"
    for label in (
        bodies.Label("hall", 7, 3, "bucket", 9, KEY),
        bodies.Label("bus", 8, 3, "bucket", 9, KEY),
        bodies.Label("bus", 7, 4, "bucket", 9, KEY),
        bodies.Label("bus", 7, 3, "delta", 0, KEY),
        bodies.Label("bus", 7, 3, "bucket", 8, KEY),
    ):
        with pytest.raises(MessageError):
            bodies.unseal(label, sealed, key)
    with pytest.raises(MessageError):
        bodies.unseal(LABEL, sealed, CHANCE.randbytes(32))
    with pytest.raises(MessageError):
        bodies.unseal(LABEL, sealed[:20], key)


@pytest.mark.parametrize("size", [1, 99, 100, 101, 1000])
def test_parts_put_together_are_the_body(size: int) -> None:
    sealed = CHANCE.randbytes(size)
    parts = [bodies.read_part(message) for message in bodies.cut(LABEL, sealed, 100)]
    assert b"".join(part.content for part in parts) == sealed
    assert [part.part for part in parts] == list(range(parts[0].parts))
    assert {part.label for part in parts} == {LABEL}


def test_changes_come_back_and_a_cut_anywhere_is_noticed() -> None:
    body = bodies.encode_changes(
        [bodies.present("a", b"record a"), bodies.Change(records.key_of("b"), None)]
    )
    found = bodies.decode_changes(body)
    assert found == [bodies.Change(b"", b"record a"), bodies.Change(records.key_of("b"), None)]
    whole = [0, 1 + 4 + len(b"record a"), len(body)]
    for end in range(len(body) + 1):
        if end in whole:
            assert len(bodies.decode_changes(body[:end])) == whole.index(end)
        else:
            with pytest.raises(MessageError):
                bodies.decode_changes(body[:end])


def test_a_head_is_the_citys_word(town: Town) -> None:
    message = gallery.sign_head(head(), town.gallery)
    assert gallery.read_head(message, town.trust, wall_ms=NOW_MS) == head()
    with pytest.raises(MessageError):
        gallery.read_head(gallery.sign_head(head(), town.command), town.trust, wall_ms=NOW_MS)


def test_a_hello_counts_from_the_device_itself_alone(town: Town) -> None:
    hello = gallery.Hello("bus-1", "bus", (0, 0), "", bytes(8), bytes(16), bytes(32))
    message = gallery.sign_hello(hello, town.device("bus-1"))
    assert gallery.read_ask(message, town.trust, "bus-1", wall_ms=NOW_MS)[0] == hello
    with pytest.raises(MessageError, match="another device"):
        gallery.read_ask(message, town.trust, "bus-2", wall_ms=NOW_MS)
    forged = gallery.sign_hello(hello, town.device("bus-2"))
    with pytest.raises(MessageError, match="another device"):
        gallery.read_ask(forged, town.trust, "bus-1", wall_ms=NOW_MS)


def test_a_want_says_what(town: Town) -> None:
    signer = town.device("bus-1")
    for want in (
        gallery.Want("bus-1", "bus", 7, 9, "delta", 5),
        gallery.Want("bus-1", "bus", 7, 9, "index"),
        gallery.Want("bus-1", "bus", 7, 9, "bucket", 0, (1, 2, 255)),
    ):
        message = gallery.sign_want(want, signer)
        assert gallery.read_ask(message, town.trust, "bus-1", wall_ms=NOW_MS)[0] == want
    for bad in (
        gallery.Want("bus-1", "bus", 7, 9, "delta", 9),
        gallery.Want("bus-1", "bus", 7, 99, "delta", 5),
        gallery.Want("bus-1", "bus", 7, 9, "bucket", 0, (256,)),
        gallery.Want("bus-1", "bus", 7, 9, "bucket", 0, tuple(range(33))),
        gallery.Want("bus-1", "bus", 7, 9, "everything"),
    ):
        with pytest.raises(MessageError):
            gallery.read_ask(
                gallery.sign_want(bad, signer), town.trust, "bus-1", wall_ms=NOW_MS
            )  # fmt: skip


def test_now_is_for_one_device(town: Town) -> None:
    now = gallery.Now("bus-1", "bus", (7, 3), "ab" * 32, bytes(16), NOW_MS)
    message = gallery.sign_now(now, town.command)
    assert gallery.read_now(message, town.trust, "bus-1", wall_ms=NOW_MS) == now
    with pytest.raises(MessageError, match="another device"):
        gallery.read_now(message, town.trust, "bus-2", wall_ms=NOW_MS)


def test_keys_open_for_their_device_and_gallery_alone(town: Town) -> None:
    private = CHANCE.randbytes(32)
    keys = gallery.GalleryKeys(
        key=KEY,
        content=CHANCE.randbytes(32),
        template=CHANCE.randbytes(32),
        template_version=2,
        pseudonyms={"bus": CHANCE.randbytes(32), "linked": CHANCE.randbytes(32)},
        enrolment=CHANCE.randbytes(32),
    )
    wrapped = sealing.wrap_keys(keys, "bus", "bus-1", sealing.public_key_of(private))
    told = gallery.WrappedKeys("bus-1", "bus", KEY, wrapped)
    read = gallery.read_keys(
        gallery.sign_keys(told, town.command), town.trust, "bus-1", wall_ms=NOW_MS
    )
    assert sealing.unwrap_keys(read.wrapped, "bus", "bus-1", private) == keys
    for name, device, key in (
        ("hall", "bus-1", private),
        ("bus", "bus-2", private),
        ("bus", "bus-1", CHANCE.randbytes(32)),
    ):
        with pytest.raises(MessageError):
            sealing.unwrap_keys(wrapped, name, device, key)
    assert hashlib.sha256(keys.content).hexdigest()[:8] not in repr(keys)
    assert keys.content.hex() not in repr(keys)


def test_an_enrolment_opens_at_the_city_alone() -> None:
    private = CHANCE.randbytes(32)
    consent = Consent("bus", "the town", ("face template",), ("the bus company",), 30, "1", "ja",
                      NOW_MS, NOW_MS + 1, guardian=True)  # fmt: skip
    before = EnrolmentRecord(record(), 2, (consent,))
    sealed = seal_enrolment(before, "hall-1", sealing.public_key_of(private))
    after = open_enrolment(sealed, "hall-1", private)
    assert (after.record.id, after.template_version, after.consents) == ("r-1", 2, (consent,))
    with pytest.raises(MessageError):
        open_enrolment(sealed, "hall-2", private)
    with pytest.raises(MessageError):
        open_enrolment(sealed, "hall-1", CHANCE.randbytes(32))
    with pytest.raises(MessageError, match="fewer templates"):
        seal_enrolment(
            EnrolmentRecord(record(count=60), 2, ()), "hall-1", sealing.public_key_of(private)
        )  # fmt: skip
