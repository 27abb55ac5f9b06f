"""One resident as a gallery carries them, and the digests that prove a gallery whole.

A record is a JSON line and, behind it, the templates as little-endian float16 rows one after the
other. Its bytes are made once, at the city; everybody else passes them on as they are, so their
SHA-256 is the same everywhere. Rounding to float16 moves a cosine by about 2e-5.

::

    key     = SHA-256("kaopass/1 resident" 0x00 id)         what a resident is called in digests
    bucket  = the key's first byte                           0 to 255
    digest of a bucket = SHA-256(key digest key digest ...)  by key, digest = SHA-256 of the record
    root    = SHA-256(digest of bucket 0 ... digest of bucket 255)
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agent.base.errors import MessageError
from agent.base.values import PURPOSES, Vector
from agent.protocol.fields import parse
from agent.protocol.forms import CrossCheck, Form
from agent.protocol.specs import Array, Choice, Flag, Integer, Text

BUCKETS = 256
DIGEST_BYTES = 32
MAX_RECORD_BYTES = 262_144
MAX_TEMPLATES = 64  # of one resident, over all packs
MAX_VALUES = 2_048  # in one template
_MAX_HEAD_BYTES = 4_096
_LONGEST, _SHORTEST = 4.0, 0.05  # a template's length, about 1; it weighs the scores


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A resident in a gallery.

    ``purposes`` are those they consented to and this gallery serves; ``linked`` that bus and hall
    may know them by one pseudonym; ``expires_ms`` Unix time when the consent lapses, 0 never.
    ``templates`` are float32 (n, d) by model pack, mapped by the gallery's template key.
    """

    id: str
    purposes: tuple[str, ...]
    nickname: str = ""
    linked: bool = False
    expires_ms: int = 0
    templates: Mapping[str, Vector] = field(default_factory=dict)


PURPOSE = Choice(PURPOSES)
_PACK: Form[dict[str, Any]] = Form(
    dict,
    "templates",
    {
        "pack": Text(1, 64),
        "count": Integer(1, MAX_TEMPLATES),
        "values": Integer(1, MAX_VALUES),
    },
)
RECORD_HEAD: Form[dict[str, Any]] = Form(
    dict,
    "record",
    {
        "id": Text(1, 128),
        "nickname": Text(0, 64),
        "purposes": Array(PURPOSE, len(PURPOSES), 1),
        "linked": Flag(),
        "expires_ms": Integer(),
        "templates": Array(_PACK, MAX_TEMPLATES),
    },
    checks=(
        CrossCheck(
            "id", "not in composed form (NFC)", lambda told: told["id"] == canonical_id(told["id"])
        ),
        CrossCheck(
            "purposes",
            "names one twice",
            lambda told: len(set(told["purposes"])) == len(told["purposes"]),
        ),
    ),
    most_bytes=_MAX_HEAD_BYTES,
)


def canonical_id(person_id: str) -> str:
    """An id in its composed form (NFC): two spellings of one id are one resident."""
    return unicodedata.normalize("NFC", person_id)


def key_of(person_id: str) -> bytes:
    """What the resident *person_id* is called in deltas and digests: 32 bytes."""
    return hashlib.sha256(b"kaopass/1 resident\0" + canonical_id(person_id).encode()).digest()


def encode_record(record: Record) -> bytes:
    """The record as every device will receive it. Raises MessageError for what cannot be said."""
    packs, rows = [], []
    for pack, templates in sorted(record.templates.items()):
        count, values = templates.shape
        packs.append({"pack": pack, "count": count, "values": values})
        rows.append(np.ascontiguousarray(templates, "<f2").tobytes())
    head = {
        "id": canonical_id(record.id),
        "nickname": record.nickname,
        "purposes": record.purposes,
        "linked": record.linked,
        "expires_ms": record.expires_ms,
        "templates": packs,
    }
    encoded = RECORD_HEAD.encode(head) + b"\n" + b"".join(rows)
    decode_record(encoded)  # what nobody would accept must not be signed
    return encoded


def decode_record(encoded: bytes) -> Record:
    """Raises MessageError unless *encoded* is a whole record within the limits."""
    if len(encoded) > MAX_RECORD_BYTES:
        raise MessageError(f"record: {len(encoded)} bytes, at most {MAX_RECORD_BYTES} are read")
    head, separator, body = encoded.partition(b"\n")
    if not separator:
        raise MessageError("record: it has no templates")
    told = RECORD_HEAD.read(parse(head, _MAX_HEAD_BYTES, "record"), "record")
    return Record(**{**told, "templates": _templates(told["templates"], body)})


def _templates(packs: Sequence[Mapping[str, Any]], body: bytes) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    offset = total = 0
    for told in packs:
        pack, count, values = told["pack"], told["count"], told["values"]
        end = offset + 2 * count * values
        if pack in found or end > len(body):
            raise MessageError("record: its templates are cut short, or one pack comes twice")
        rows = np.frombuffer(body[offset:end], "<f2").reshape(count, values).astype(np.float32)
        if not np.all(np.isfinite(rows)):
            raise MessageError("record: a template holds what is no number")
        lengths = np.linalg.norm(rows, axis=1)
        if not np.all((lengths > _SHORTEST) & (lengths < _LONGEST)):
            raise MessageError("record: a template is not of length about 1")
        found[pack] = rows
        offset, total = end, total + count
    if offset != len(body) or not found or total > MAX_TEMPLATES:
        raise MessageError(f"record: it must hold 1 to {MAX_TEMPLATES} templates and nothing else")
    return found


def record_digest(encoded: bytes) -> bytes:
    """SHA-256 of a record's bytes."""
    return hashlib.sha256(encoded).digest()


def bucket_digests(digests: Mapping[bytes, bytes]) -> list[bytes]:
    """The digest of each of the 256 buckets, from each resident's key and record digest."""
    buckets = [hashlib.sha256() for _ in range(BUCKETS)]
    for key in sorted(digests):
        buckets[key[0]].update(key + digests[key])
    return [bucket.digest() for bucket in buckets]


def root_of(buckets: Iterable[bytes]) -> str:
    """The root over the digests of all buckets: 64 hexadecimal digits."""
    return hashlib.sha256(b"".join(buckets)).hexdigest()
