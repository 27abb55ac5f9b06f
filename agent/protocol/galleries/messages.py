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

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.galleries.bodies import CONTENT_KEY_BYTES, KEY_ID_BYTES
from agent.protocol.galleries.records import BUCKETS, PURPOSE
from agent.protocol.signed import Role, SignedForm, Trust
from agent.protocol.specs import (
    DEVICE,
    DIGEST,
    Array,
    Base64,
    Choice,
    Constant,
    Hexadecimal,
    Integer,
    Name,
)

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

    @property
    def epoch(self) -> int:
        return self.have[0]

    @property
    def version(self) -> int:
        return self.have[1]


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

    @property
    def epoch(self) -> int:
        return self.position[0]

    @property
    def version(self) -> int:
        return self.position[1]


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


HEAD_MESSAGE = SignedForm(
    HEAD,
    Role.GALLERY,
    Form(
        Head,
        HEAD,
        {
            "gallery": PURPOSE,
            "epoch": Integer(1),
            "version": Integer(1),
            "prev": DIGEST,
            "root": DIGEST,
            "count": Integer(),
            "floor": Integer(),
            "expires": Integer(),
            "key": Hexadecimal(KEY_ID_BYTES),
            "issued": Integer(),
        },
        names={"expires": "expires_ms", "issued": "issued_ms"},
        checks=(CrossCheck("floor", "above version", lambda head: head.floor <= head.version),),
    ),
)


def _hello(epoch: int, version: int, **told: Any) -> Hello:
    return Hello(have=(epoch, version), **told)


HELLO_MESSAGE = SignedForm(
    ASK,
    Role.DEVICE,
    Form(
        _hello,
        ASK,
        {
            "ask": Constant("hello"),
            "device": DEVICE,
            "gallery": PURPOSE,
            "epoch": Integer(),
            "version": Integer(),
            "root": Name(re.compile(f"(?:{DIGEST.pattern.pattern})?")),
            "key": Hexadecimal(KEY_ID_BYTES),
            "nonce": Hexadecimal(NONCE_BYTES),
            "public_key": Base64(PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES),
        },
    ),
)
WANT_MESSAGE = SignedForm(
    ASK,
    Role.DEVICE,
    Form(
        Want,
        ASK,
        {
            "ask": Choice(("delta", "index", "bucket")),
            "device": DEVICE,
            "gallery": PURPOSE,
            "epoch": Integer(),
            "version": Integer(),
            "since": Integer(),
            "numbers": Array(Integer(0, BUCKETS - 1), MAX_BUCKETS_ASKED),
        },
        names={"ask": "kind"},
        checks=(
            CrossCheck("since", "above version", lambda want: want.since <= want.version),
            CrossCheck(
                "since",
                f"a delta leads from 1 to {MAX_DELTAS_ASKED} versions on",
                lambda want: (
                    want.kind != "delta" or 1 <= want.version - want.since <= MAX_DELTAS_ASKED
                ),
            ),
        ),
    ),
)


def _now(epoch: int, version: int, **told: Any) -> Now:
    return Now(position=(epoch, version), **told)


NOW_MESSAGE = SignedForm(
    NOW,
    Role.COMMAND,
    Form(
        _now,
        NOW,
        {
            "device": DEVICE,
            "gallery": PURPOSE,
            "epoch": Integer(),
            "version": Integer(),
            "root": DIGEST,
            "nonce": Hexadecimal(NONCE_BYTES),
            "server_time": Integer(),
        },
        names={"server_time": "server_time_ms"},
    ),
)
KEYS_MESSAGE = SignedForm(
    KEY,
    Role.COMMAND,
    Form(
        WrappedKeys,
        KEY,
        {
            "device": DEVICE,
            "gallery": PURPOSE,
            "key": Hexadecimal(KEY_ID_BYTES),
            "wrapped": Base64(CONTENT_KEY_BYTES, MAX_WRAPPED_BYTES),
        },
    ),
)

sign_head, read_head = HEAD_MESSAGE.sign, HEAD_MESSAGE.read
sign_now, read_now = NOW_MESSAGE.sign, NOW_MESSAGE.read
sign_keys, read_keys = KEYS_MESSAGE.sign, KEYS_MESSAGE.read
sign_hello, sign_want = HELLO_MESSAGE.sign, WANT_MESSAGE.sign


def read_ask(
    message: bytes, trust: Trust, device: str, *, wall_ms: int
) -> tuple[Hello | Want, str]:
    """What *device* asks, and the serial number of the certificate it signed with.

    Raises MessageError unless it is signed by that device itself.
    """
    signed = trust.check(message, ASK, Role.DEVICE, wall_ms=wall_ms)
    hello = signed.payload.get("ask") == "hello"
    ask = (HELLO_MESSAGE if hello else WANT_MESSAGE).form.read(signed.payload)
    if ask.device != device or signed.signer != device:
        raise MessageError(f"{ASK}: signed for another device than the topic's")
    return ask, signed.serial
