"""Messages about galleries: who has which version, proof that it is the newest, and its keys.

One gallery a purpose. All but the bodies are signed (``signed``); times are Unix milliseconds.

::

    d/gal/head  "kp1-head" GALLERY, retained   the newest version: {gallery, epoch, version, prev,
                                               root, count, floor, expires, key, issued}
    u/gal       "kp1-ask"  DEVICE              hello: what I have, a nonce, my key for HPKE;
                                               or a request for deltas, the index, buckets
    d/gal/now   "kp1-now"  COMMAND             answers a hello: its nonce and the head's version,
                                               so that no old head passes for the newest
    d/gal/key   "kp1-key"  COMMAND             the keys of the gallery, HPKE to that one device
    d/gal/body  parts of bodies                see ``bodies``

(epoch, version) only ever grows. A city rebuilt from nothing begins a greater epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.base.values import PURPOSES
from agent.protocol.fields import (
    array,
    choice,
    device_name,
    encode_bytes,
    encoded,
    fields,
    hexadecimal,
    integer,
)
from agent.protocol.galleries.bodies import CONTENT_KEY_BYTES, KEY_ID_BYTES
from agent.protocol.galleries.records import BUCKETS, DIGEST_BYTES
from agent.protocol.signed import Role, Signed, Signer, Trust

HEAD, ASK, NOW, KEY = "kp1-head", "kp1-ask", "kp1-now", "kp1-key"
NONCE_BYTES = 16
PUBLIC_KEY_BYTES = 32  # X25519
MAX_WRAPPED_BYTES = 8_192
MAX_BUCKETS_ASKED = 32
MAX_DELTAS_ASKED = 64

Position = tuple[int, int]  # (epoch, version), as they are ordered; (0, 0): nothing yet


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a gallery, as the city signed it.

    ``root`` and ``prev`` are 64 hexadecimal digits, ``prev`` of the version before. Deltas lead on
    from ``floor``; ``key`` names the content key of its bodies; after ``expires_ms`` it is void.
    """

    gallery: str
    epoch: int
    version: int
    prev: str
    root: str
    count: int
    floor: int
    expires_ms: int
    key: bytes
    issued_ms: int

    @property
    def position(self) -> Position:
        return self.epoch, self.version


@dataclass(frozen=True, slots=True)
class Hello:
    """A device says what it has, ``root`` empty for nothing, and how to seal keys to it."""

    device: str
    gallery: str
    have: Position
    root: str
    key: bytes  # the content key it has; KEY_ID_BYTES zeros for none
    nonce: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """A device asks for bodies of ``version``.

    ``kind`` "delta": those that lead from ``since`` to it; "index"; "bucket": ``numbers``.
    """

    device: str
    gallery: str
    epoch: int
    version: int
    kind: str
    since: int = 0
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Now:
    """The city's word, for one nonce, that ``position`` is the newest."""

    device: str
    gallery: str
    position: Position
    root: str
    nonce: bytes
    server_time_ms: int


@dataclass(frozen=True, slots=True)
class WrappedKeys:
    """``GalleryKeys`` of ``key``, HPKE-sealed to ``device`` (``sealing``)."""

    device: str
    gallery: str
    key: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True, repr=False)
class GalleryKeys:
    """What a device needs for a gallery, 32 bytes each.

    ``content`` opens the bodies. ``template`` maps probes as the templates are mapped, in its
    ``template_version``. ``pseudonyms`` by purpose, and "linked" for residents who may be known in
    both by one. ``enrolment`` is the X25519 public key that new templates are sealed to.
    """

    key: bytes
    content: bytes
    template: bytes
    template_version: int
    pseudonyms: Mapping[str, bytes]
    enrolment: bytes


def head_topic(device: str) -> str:
    return f"kp1/{device}/d/gal/head"


def now_topic(device: str) -> str:
    return f"kp1/{device}/d/gal/now"


def key_topic(device: str) -> str:
    return f"kp1/{device}/d/gal/key"


def body_topic(device: str) -> str:
    return f"kp1/{device}/d/gal/body"


def ask_topic(device: str) -> str:
    return f"kp1/{device}/u/gal"


def sign_head(head: Head, signer: Signer) -> bytes:
    """The head as it is published to every device of the gallery."""
    return signer.sign(
        HEAD,
        {
            "gallery": head.gallery,
            "epoch": head.epoch,
            "version": head.version,
            "prev": head.prev,
            "root": head.root,
            "count": head.count,
            "floor": head.floor,
            "expires": head.expires_ms,
            "key": head.key.hex(),
            "issued": head.issued_ms,
        },
    )


def read_head(message: bytes, trust: Trust, *, wall_ms: int) -> Head:
    """Raises MessageError unless *message* is a head that this town signed."""
    wanted = (
        *("gallery", "epoch", "version", "prev", "root"),
        *("count", "floor", "expires", "key", "issued"),
    )
    value = _opened(trust.check(message, HEAD, Role.GALLERY, wall_ms=wall_ms), wanted, HEAD)
    version = integer(value["version"], "version", 1)
    return Head(
        gallery=choice(value["gallery"], "gallery", PURPOSES),
        epoch=integer(value["epoch"], "epoch", 1),
        version=version,
        prev=_root(value["prev"], "prev"),
        root=_root(value["root"], "root"),
        count=integer(value["count"], "count"),
        floor=integer(value["floor"], "floor", 0, version),
        expires_ms=integer(value["expires"], "expires"),
        key=hexadecimal(value["key"], "key", KEY_ID_BYTES),
        issued_ms=integer(value["issued"], "issued"),
    )


def sign_hello(hello: Hello, signer: Signer) -> bytes:
    return signer.sign(
        ASK,
        {
            "ask": "hello",
            "device": hello.device,
            "gallery": hello.gallery,
            "epoch": hello.have[0],
            "version": hello.have[1],
            "root": hello.root,
            "key": hello.key.hex(),
            "nonce": hello.nonce.hex(),
            "public_key": encode_bytes(hello.public_key),
        },
    )


def sign_want(want: Want, signer: Signer) -> bytes:
    return signer.sign(
        ASK,
        {
            "ask": want.kind,
            "device": want.device,
            "gallery": want.gallery,
            "epoch": want.epoch,
            "version": want.version,
            "since": want.since,
            "numbers": list(want.numbers),
        },
    )


def read_ask(
    message: bytes, trust: Trust, device: str, *, wall_ms: int
) -> tuple[Hello | Want, str]:
    """What *device* asks, and the serial number of the certificate it signed with.

    Raises MessageError unless it is signed by that device itself.
    """
    signed = trust.check(message, ASK, Role.DEVICE, wall_ms=wall_ms)
    value = _opened(signed, ("ask", "device", "gallery", "epoch", "version"), ASK)
    if device_name(value["device"]) != device or signed.signer != device:
        raise MessageError(f"{ASK}: signed for another device than the topic's")
    gallery = choice(value["gallery"], "gallery", PURPOSES)
    epoch, version = integer(value["epoch"], "epoch"), integer(value["version"], "version")
    kind = choice(value["ask"], "ask", ("hello", "delta", "index", "bucket"))
    if kind == "hello":
        fields(value, ("root", "key", "nonce", "public_key"), ASK)
        hello = Hello(
            device=device,
            gallery=gallery,
            have=(epoch, version),
            root=_root(value["root"], "root") if value["root"] != "" else "",
            key=hexadecimal(value["key"], "key", KEY_ID_BYTES),
            nonce=hexadecimal(value["nonce"], "nonce", NONCE_BYTES),
            public_key=encoded(
                value["public_key"], "public_key", PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES
            ),
        )
        return hello, signed.serial
    fields(value, ("since", "numbers"), ASK)
    numbers = [
        integer(number, "numbers", 0, BUCKETS - 1)
        for number in array(value["numbers"], MAX_BUCKETS_ASKED, "numbers")
    ]
    since = integer(value["since"], "since", 0, version)
    if kind == "delta" and not 1 <= version - since <= MAX_DELTAS_ASKED:
        raise MessageError(f"{ASK}: at most {MAX_DELTAS_ASKED} deltas are sent at once")
    return Want(device, gallery, epoch, version, kind, since, tuple(numbers)), signed.serial


def sign_now(now: Now, signer: Signer) -> bytes:
    return signer.sign(
        NOW,
        {
            "device": now.device,
            "gallery": now.gallery,
            "epoch": now.position[0],
            "version": now.position[1],
            "root": now.root,
            "nonce": now.nonce.hex(),
            "server_time": now.server_time_ms,
        },
    )


def read_now(message: bytes, trust: Trust, device: str, *, wall_ms: int) -> Now:
    """Raises MessageError unless this town said it to *device*."""
    wanted = ("device", "gallery", "epoch", "version", "root", "nonce", "server_time")
    value = _for(device, trust.check(message, NOW, Role.COMMAND, wall_ms=wall_ms), wanted, NOW)
    return Now(
        device=device,
        gallery=choice(value["gallery"], "gallery", PURPOSES),
        position=(integer(value["epoch"], "epoch"), integer(value["version"], "version")),
        root=_root(value["root"], "root"),
        nonce=hexadecimal(value["nonce"], "nonce", NONCE_BYTES),
        server_time_ms=integer(value["server_time"], "server_time"),
    )


def sign_keys(keys: WrappedKeys, signer: Signer) -> bytes:
    return signer.sign(
        KEY,
        {
            "device": keys.device,
            "gallery": keys.gallery,
            "key": keys.key.hex(),
            "wrapped": encode_bytes(keys.wrapped),
        },
    )


def read_keys(message: bytes, trust: Trust, device: str, *, wall_ms: int) -> WrappedKeys:
    """Raises MessageError unless this town sealed them for *device*."""
    wanted = ("device", "gallery", "key", "wrapped")
    value = _for(device, trust.check(message, KEY, Role.COMMAND, wall_ms=wall_ms), wanted, KEY)
    return WrappedKeys(
        device=device,
        gallery=choice(value["gallery"], "gallery", PURPOSES),
        key=hexadecimal(value["key"], "key", KEY_ID_BYTES),
        wrapped=encoded(value["wrapped"], "wrapped", CONTENT_KEY_BYTES, MAX_WRAPPED_BYTES),
    )


def _opened(signed: Signed, wanted: tuple[str, ...], what: str) -> dict[str, Any]:
    return fields(signed.payload, wanted, what)


def _for(device: str, signed: Signed, wanted: tuple[str, ...], what: str) -> dict[str, Any]:
    value = _opened(signed, wanted, what)
    if value["device"] != device:
        raise MessageError(f"{what}: it is for another device")
    return value


def _root(value: Any, what: str) -> str:
    return hexadecimal(value, what, DIGEST_BYTES).hex()
