"""What crosses the network between a device and the city: topics, batches, acks, births and wills.

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
from agent.protocol.fields import (
    BOOT,
    CODE,
    MAX_INTEGER,
    FieldError,
    array,
    compact,
    epoch_name,
    fields,
    integer,
    name,
    parse,
    text,
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


@dataclass(frozen=True, slots=True)
class Gone:
    """The device is no longer connected; void if ``connection`` is not its latest."""

    connection: int


def events_topic(device: str) -> str:
    """Batches of events, up."""
    return f"kp1/{device}/u/ev"


def state_topic(device: str) -> str:
    """Birth and will, up, retained."""
    return f"kp1/{device}/u/st"


def ack_topic(device: str) -> str:
    """What the city has committed, down."""
    return f"kp1/{device}/d/ack"


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


def encode_ack(ack: Ack) -> bytes:
    """The ack as it is published on the device's ``d/ack``."""
    return compact(
        {
            "epoch": ack.epoch,
            "upto": ack.upto,
            "have": [list(span) for span in ack.have],
            "nack": [{"seq": nack.seq, "code": nack.code} for nack in ack.nack],
            "server_time": ack.server_time_ms,
        }
    )


def decode_ack(payload: bytes) -> Ack:
    """Raises MessageError unless *payload* is a whole, consistent ack."""
    value = fields(
        parse(payload, MAX_ACK_BYTES, "ack"),
        ("epoch", "upto", "have", "nack", "server_time"),
        "ack",
    )
    have = []
    for span in array(value["have"], MAX_RANGES, "have"):
        if not isinstance(span, list) or len(span) != 2:
            raise MessageError("ack: a range in have is [first, last]")
        first, last = (integer(end, "have", 1) for end in span)
        if last < first:
            raise MessageError(f"ack: range {first}..{last} in have runs backwards")
        have.append((first, last))
    nacks = []
    for item in array(value["nack"], MAX_RANGES, "nack"):
        nack = fields(item, ("seq", "code"), "nack")
        nacks.append(Nack(integer(nack["seq"], "nack.seq", 1), name(nack["code"], "code", CODE)))
    return Ack(
        epoch=epoch_name(value["epoch"]),
        upto=integer(value["upto"], "upto", 0),
        have=tuple(have),
        nack=tuple(nacks),
        server_time_ms=integer(value["server_time"], "server_time", 0),
    )


def encode_birth(birth: Birth) -> bytes:
    """The birth as it is published, retained, on ``u/st``."""
    return compact(
        {
            "online": True,
            "epoch": birth.epoch,
            "epochs": [
                {"epoch": bounds.epoch, "first": bounds.first, "last": bounds.last}
                for bounds in birth.epochs
            ],
            "connection": birth.connection,
            "software": birth.software,
            "gallery": {"version": birth.gallery_version, "root": birth.gallery_root},
            "settings_version": birth.settings_version,
            "clocks": [
                {"boot": clock.boot, "offset_ms": clock.offset_ms} for clock in birth.clocks
            ],
        }
    )


def encode_gone(connection: int) -> bytes:
    """The last will, and the farewell of an orderly stop."""
    return compact({"online": False, "connection": connection})


def decode_state(payload: bytes) -> Birth | Gone:
    """A birth or a will. Raises MessageError when it is neither."""
    value = parse(payload, MAX_STATE_BYTES, "state")
    if not isinstance(value, dict) or not isinstance(value.get("online"), bool):
        raise MessageError("state: online must be true or false")
    if not value["online"]:
        return Gone(integer(fields(value, ("online", "connection"), "will")["connection"], "will"))
    wanted = ("epoch", "epochs", "connection", "software", "gallery", "settings_version")
    fields(value, ("online", *wanted), "birth")
    gallery = fields(value["gallery"], ("version", "root"), "gallery")
    epochs = []
    for item in array(value["epochs"], MAX_EPOCHS, "epochs"):
        held = fields(item, ("epoch", "first", "last"), "epochs")
        first, last = integer(held["first"], "first", 1), integer(held["last"], "last", 0)
        if last < first - 1:
            raise MessageError(f"birth: journal from {first} to {last} runs backwards")
        epochs.append(Bounds(epoch_name(held["epoch"]), first, last))
    clocks = []
    for item in array(value.get("clocks", []), MAX_CLOCKS, "clocks"):
        clock = fields(item, ("boot", "offset_ms"), "clocks")
        offset_ms = integer(clock["offset_ms"], "offset_ms", -MAX_INTEGER)
        clocks.append(Offset(name(clock["boot"], "boot", BOOT), offset_ms))
    return Birth(
        connection=integer(value["connection"], "connection"),
        epoch=epoch_name(value["epoch"]),
        epochs=tuple(epochs),
        software=text(value["software"], "software", 0, 64),
        gallery_version=integer(gallery["version"], "gallery.version", 0),
        gallery_root=text(gallery["root"], "gallery.root", 0, 128),
        settings_version=integer(value["settings_version"], "settings_version", 0),
        clocks=tuple(clocks),
    )


def identity(item: Any) -> tuple[str, int]:
    """(epoch, seq) of one item of a batch, however bad the rest of it is. Raises MessageError."""
    if not isinstance(item, dict):
        raise FieldError("event", "not an object")
    return epoch_name(item.get("epoch")), integer(item.get("seq"), "seq", 1)
