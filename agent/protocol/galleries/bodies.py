"""Bodies of a gallery: deltas, buckets and their index, encrypted once for every device.

A body is AES-256-GCM under the gallery's content key: a random 96-bit nonce, then the ciphertext.
Its label (which gallery, version, what) is the associated data, so no body can pass for another.
Large ones are cut into parts that a broker takes; each is a message of its own: a JSON line with
label and place, then the bytes. That a body is *true* is not said here: the signed root says it.

::

    delta N to N+1:  "+" uint32 record ... for residents new or changed, "-" key for those gone
    bucket:          "+" uint32 record ... of all its residents, by key
    index:           256 digests of 32 bytes
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.base.errors import MessageError
from agent.protocol.fields import compact
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.galleries.records import (
    BUCKETS,
    DIGEST_BYTES,
    MAX_RECORD_BYTES,
    PURPOSE,
    key_of,
)
from agent.protocol.specs import Choice, Hexadecimal, Integer

KINDS = ("delta", "bucket", "index")
CONTENT_KEY_BYTES = 32
KEY_ID_BYTES = 8
PART_BYTES = 196_608  # below the 256 KB that the shipped broker configuration takes
MAX_PARTS = 4_096
MAX_PART_MESSAGE_BYTES = PART_BYTES + 1_024
_MAX_HEAD_BYTES = 1_024
_NONCE_BYTES, _TAG_BYTES = 12, 16
_PRESENT, _GONE = b"+", b"-"


@dataclass(frozen=True, slots=True)
class Label:
    """Which body. ``number`` is the bucket, 0 for the others; ``key`` names the content key.

    A bucket or index is of ``version``; a delta leads from ``version`` - 1 to it.
    """

    gallery: str
    epoch: int
    version: int
    kind: str
    number: int
    key: bytes

    def bytes(self) -> bytes:
        """The associated data of its encryption."""
        return compact(self.json())

    def json(self) -> dict[str, object]:
        return _LABEL.write(self)


@dataclass(frozen=True, slots=True)
class Part:
    """Part ``part`` (from 0) of ``parts`` of an encrypted body."""

    label: Label
    part: int
    parts: int
    content: bytes


_LABEL = Form(
    Label,
    "gallery part",
    {
        "gallery": PURPOSE,
        "epoch": Integer(),
        "version": Integer(),
        "kind": Choice(KINDS),
        "number": Integer(0, BUCKETS - 1),
        "key": Hexadecimal(KEY_ID_BYTES),
    },
)
# A part's JSON line: the body's label, and which part of how many.
PART_HEAD: Form[dict[str, Any]] = Form(
    dict,
    _LABEL.title,
    {**_LABEL.fields, "part": Integer(0, MAX_PARTS - 1), "parts": Integer(1, MAX_PARTS)},
    checks=(
        CrossCheck(
            "number",
            "only a bucket has one",
            lambda told: told["kind"] == "bucket" or not told["number"],
        ),
        CrossCheck("part", "not below parts", lambda told: told["part"] < told["parts"]),
    ),
    most_bytes=_MAX_HEAD_BYTES,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a delta or bucket: the resident's key, and their record, None when gone."""

    key: bytes
    record: bytes | None


def seal(label: Label, body: bytes, content_key: bytes) -> bytes:
    """*body* encrypted for whoever has *content_key*."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(content_key).encrypt(nonce, body, label.bytes())


def unseal(label: Label, sealed: bytes, content_key: bytes) -> bytes:
    """Raises MessageError if *sealed* was altered, or is another body than *label* says."""
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise MessageError("gallery body: cut short")
    try:
        return AESGCM(content_key).decrypt(
            sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], label.bytes()
        )
    except InvalidTag as error:
        raise MessageError("gallery body: altered, or under another key") from error


def cut(label: Label, sealed: bytes, part_bytes: int = PART_BYTES) -> list[bytes]:
    """The messages that carry *sealed*; one at least."""
    parts = max(1, -(-len(sealed) // part_bytes))
    return [
        compact({**label.json(), "part": number, "parts": parts})
        + b"\n"
        + sealed[number * part_bytes : (number + 1) * part_bytes]
        for number in range(parts)
    ]


def read_part(message: bytes) -> Part:
    """One message of ``cut``. Raises MessageError."""
    if len(message) > MAX_PART_MESSAGE_BYTES:
        raise MessageError(
            f"gallery part: {len(message)} bytes, at most {MAX_PART_MESSAGE_BYTES} are read"
        )
    head, separator, content = message.partition(b"\n")
    if not separator or not content:
        raise MessageError("gallery part: it has no content")
    told = PART_HEAD.decode(head)
    part, parts = told.pop("part"), told.pop("parts")
    return Part(Label(**told), part, parts, content)


def encode_changes(changes: Iterable[Change]) -> bytes:
    """A delta's or a bucket's body."""
    pieces = []
    for change in changes:
        if change.record is None:
            pieces.append(_GONE + change.key)
        else:
            pieces.append(_PRESENT + struct.pack(">I", len(change.record)) + change.record)
    return b"".join(pieces)


def decode_changes(body: bytes) -> list[Change]:
    """The entries of a delta or bucket, their records not decoded yet. Raises MessageError.

    A record's key follows from the id in it, which the caller decodes; here it is empty.
    """
    changes: list[Change] = []
    offset, end = 0, len(body)
    while offset < end:
        mark, offset = body[offset : offset + 1], offset + 1
        if mark == _PRESENT and offset + 4 <= end:
            (size,) = struct.unpack_from(">I", body, offset)
            offset += 4
            if size > MAX_RECORD_BYTES or offset + size > end:
                raise MessageError("gallery body: a record is cut short or too long")
            changes.append(Change(b"", body[offset : offset + size]))
            offset += size
        elif mark == _GONE and offset + DIGEST_BYTES <= end:
            changes.append(Change(body[offset : offset + DIGEST_BYTES], None))
            offset += DIGEST_BYTES
        else:
            raise MessageError("gallery body: neither a record nor a tombstone where one must be")
    return changes


def present(person_id: str, record: bytes) -> Change:
    """The entry of a resident who is in the gallery."""
    return Change(key_of(person_id), record)


def encode_index(digests: Sequence[bytes]) -> bytes:
    """The digests of all buckets, in order."""
    return b"".join(digests)


def decode_index(body: bytes) -> list[bytes]:
    """Raises MessageError unless it is 256 digests."""
    if len(body) != BUCKETS * DIGEST_BYTES:
        raise MessageError(f"gallery index: {len(body)} bytes, not {BUCKETS * DIGEST_BYTES}")
    return [body[at : at + DIGEST_BYTES] for at in range(0, len(body), DIGEST_BYTES)]
