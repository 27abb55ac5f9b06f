"""What crosses the network between a device and the city: batches, acks, births and wills.

Everything received is somebody else's bytes: it parses completely and within bounds, or it is a
MessageError. Nothing here keeps state or does I/O.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agent.base.errors import MessageError
from agent.base.values import Ack, Nack
from agent.protocol.fields import MAX_INTEGER, FieldError, parse
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import (
    BOOT,
    CODE,
    EPOCH,
    Array,
    Constant,
    Integer,
    Optional,
    Pair,
    Text,
)

MAX_BATCH_EVENTS = 100
MAX_BATCH_BYTES = 65_536  # of JSON, so a receiver knows how far it ever has to decompress
COMPRESS_FROM_EVENTS = 10  # below that zlib gains nothing
MAX_ACK_BYTES = 131_072
MAX_STATE_BYTES = 16_384
MAX_RANGES = 2_000  # more than can be in flight, so an ack never has to leave one out
MAX_EPOCHS = 100  # in a birth; one more for every salvage of a journal
MAX_CLOCKS = 32  # boots whose clock was found late, in a birth


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sequence numbers a journal holds of ``epoch``; (1, 0) when none."""

    epoch: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Offset:
    """In ``boot``, Unix time is monotonic time plus ``offset_ms``: found after events were sent."""

    boot: str
    offset_ms: int


@dataclass(frozen=True, slots=True)
class Birth:
    """What a device says of itself when it connects, and again when part of it changed.

    ``connection`` counts its attempts. ``epochs`` is everything the journal still holds, so the
    city sees what it lacks. ``clocks`` lets it add the corrected time to events that were acked
    before their boot's clock was known: being retained and complete in itself, it may be lost,
    repeated or late without harm.
    """

    connection: int
    epoch: str
    epochs: tuple[Bounds, ...]
    software: str
    gallery_version: int = 0
    gallery_root: str = ""
    settings_version: int = 0
    clocks: tuple[Offset, ...] = ()

    @property
    def gallery(self) -> dict[str, Any]:
        """As the wire has it."""
        return {"version": self.gallery_version, "root": self.gallery_root}


@dataclass(frozen=True, slots=True)
class Will:
    """The device is no longer connected; void if ``connection`` is not its latest."""

    connection: int


_SEQ = Integer(1)

ACK = Form(
    Ack,
    "ack",
    {
        "epoch": EPOCH,
        "upto": Integer(),
        "have": Array(Pair(Integer(1)), MAX_RANGES),
        "nack": Array(Form(Nack, "nack", {"seq": _SEQ, "code": CODE}), MAX_RANGES),
        "server_time": Integer(),
    },
    names={"server_time": "server_time_ms"},
    checks=(
        CrossCheck(
            "have",
            "a range runs backwards",
            lambda ack: all(first <= last for first, last in ack.have),
        ),
    ),
    most_bytes=MAX_ACK_BYTES,
)
_BOUNDS = Form(
    Bounds,
    "epochs",
    {"epoch": EPOCH, "first": Integer(1), "last": Integer()},
    checks=(CrossCheck("last", "before first", lambda held: held.last >= held.first - 1),),
)
_OFFSET = Form(Offset, "clocks", {"boot": BOOT, "offset_ms": Integer(-MAX_INTEGER)})


def _birth(gallery: dict[str, Any], **told: Any) -> Birth:
    return Birth(gallery_version=gallery["version"], gallery_root=gallery["root"], **told)


BIRTH = Form(
    _birth,
    "birth",
    {
        "online": Constant(True),
        "epoch": EPOCH,
        "epochs": Array(_BOUNDS, MAX_EPOCHS),
        "connection": Integer(),
        "software": Text(0, 64),
        "gallery": Form(dict, "gallery", {"version": Integer(), "root": Text(0, 128)}),
        "settings_version": Integer(),
        "clocks": Optional(Array(_OFFSET, MAX_CLOCKS), ()),
    },
    most_bytes=MAX_STATE_BYTES,
)
WILL = Form(
    Will,
    "will",
    {"online": Constant(False), "connection": Integer()},
    most_bytes=MAX_STATE_BYTES,
)


def pack(events: Sequence[bytes]) -> bytes:
    """One batch of events that ``encode_event`` made; zlib from ten events on."""
    body = b"[" + b",".join(events) + b"]"
    return zlib.compress(body, 6) if len(events) >= COMPRESS_FROM_EVENTS else body


def unpack(payload: bytes) -> list[Any]:
    """The items of a batch, each still to be checked by ``decode_event``.

    Raises MessageError when it is not a JSON array within the limits.
    """
    if not payload:
        raise MessageError("the batch is empty")
    body = payload if payload[:1] == b"[" else _inflate(payload)
    items = parse(body, MAX_BATCH_BYTES, "batch")
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_BATCH_EVENTS:
        raise MessageError(f"a batch is an array of 1 to {MAX_BATCH_EVENTS} events")
    return items


def _inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        body = inflater.decompress(payload, MAX_BATCH_BYTES + 1)
    except zlib.error as error:
        raise MessageError(f"the batch is neither JSON nor zlib: {error}") from error
    if len(body) > MAX_BATCH_BYTES:
        raise MessageError(f"the batch inflates beyond {MAX_BATCH_BYTES} bytes")
    if not inflater.eof or inflater.unused_data:
        raise MessageError("the compressed batch is cut short or has a tail")
    return body


encode_ack, decode_ack = ACK.encode, ACK.decode
encode_birth = BIRTH.encode


def encode_will(connection: int) -> bytes:
    """The last will, and the farewell of an orderly stop."""
    return WILL.encode(Will(connection))


def decode_state(payload: bytes) -> Birth | Will:
    """A birth or a will. Raises MessageError when it is neither."""
    value = parse(payload, MAX_STATE_BYTES, "state")
    online = isinstance(value, dict) and value.get("online") is True
    return BIRTH.read(value) if online else WILL.read(value)


def identity(item: Any) -> tuple[str, int]:
    """(epoch, seq) of one item of a batch, however bad the rest of it is. Raises MessageError."""
    if not isinstance(item, dict):
        raise FieldError("event", "not an object")
    return EPOCH.read(item.get("epoch"), "epoch"), _SEQ.read(item.get("seq"), "seq")
