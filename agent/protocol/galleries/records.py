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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agent.base.errors import MessageError
from agent.base.values import PURPOSES, Vector
from agent.protocol.fields import array, choice, compact, fields, flag, integer, parse, text

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
        "purposes": list(record.purposes),
        "linked": record.linked,
        "expires_ms": record.expires_ms,
        "templates": packs,
    }
    try:
        encoded = compact(head) + b"\n" + b"".join(rows)
    except UnicodeEncodeError as error:
        raise MessageError(f"record: a text is not Unicode: {error.reason}") from error
    decode_record(encoded)  # what nobody would accept must not be signed
    return encoded


def decode_record(encoded: bytes) -> Record:
    """Raises MessageError unless *encoded* is a whole record within the limits."""
    if len(encoded) > MAX_RECORD_BYTES:
        raise MessageError(f"record: {len(encoded)} bytes, at most {MAX_RECORD_BYTES} are read")
    head, separator, body = encoded.partition(b"\n")
    if not separator:
        raise MessageError("record: it has no templates")
    wanted = ("id", "nickname", "purposes", "linked", "expires_ms", "templates")
    value = fields(parse(head, _MAX_HEAD_BYTES, "record"), wanted, "record")
    person_id = text(value["id"], "record.id", 1, 128)
    if person_id != canonical_id(person_id):
        raise MessageError("record: its id is not in composed form (NFC)")
    purposes = [
        choice(purpose, "record.purposes", PURPOSES)
        for purpose in array(value["purposes"], len(PURPOSES), "record.purposes")
    ]
    if not purposes or len(set(purposes)) != len(purposes):
        raise MessageError("record: it must name each purpose once, and one at least")
    return Record(
        id=person_id,
        purposes=tuple(purposes),
        nickname=text(value["nickname"], "record.nickname", 0, 64),
        linked=flag(value["linked"], "record.linked"),
        expires_ms=integer(value["expires_ms"], "record.expires_ms"),
        templates=_templates(array(value["templates"], MAX_TEMPLATES, "record.templates"), body),
    )


def _templates(packs: list[object], body: bytes) -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    offset = total = 0
    for item in packs:
        told = fields(item, ("pack", "count", "values"), "record.templates")
        pack = text(told["pack"], "record.pack", 1, 64)
        count = integer(told["count"], "record.count", 1, MAX_TEMPLATES)
        values = integer(told["values"], "record.values", 1, MAX_VALUES)
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
